"""Finds the node that command-line options refer to, and the credentials to connect with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from p2pfl.errors import CredentialsError, UserError
from p2pfl.identity.credentials import Credentials, load_credentials
from p2pfl.net.transport.addresses import Address, parse_address
from p2pfl.paths import folders_in, holds_file, holds_folder, obstacle, quoted
from p2pfl.runtime.observing.endpoint import Endpoint, read_endpoint
from p2pfl.runtime.observing.system_info import is_running
from p2pfl.store.directory import DataDirectory, default_data_dir, default_place
from p2pfl.text import one_line

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a listening address and how to reach it locally
"""Wildcard listening addresses, and the loopback address that reaches each from this device."""


class Target(NamedTuple):
    """One node to connect to."""

    addresses: tuple[Address, ...]
    """Tried in order."""
    credentials: Credentials
    """The observer's certificate and key."""
    token: str
    """Proves that the observer is the node's local user; empty otherwise."""
    node: str | None
    """The node id that must answer; None if any node of the federation may."""
    data_dir: Path | None
    """The node's data directory, if it belongs to this user."""

    @property
    def text(self) -> str:
        """The node's address, for messages."""
        return str(self.addresses[0])


def find_target(
    address: str | None = None,
    *,
    data_dir: Path | None = None,
    node: str | None = None,
    certs: Path | None = None,
    name: str | None = None,
) -> Target:
    """Return the node at *address*, or this user's node in *data_dir* or with the name *node*.

    Without any of these it is this user's only running node. At an *address* the certificate in *certs* is
    used (*name* picks one of several).

    Raises:
        UserError: there is no such node, or several; the message names them.
        CredentialsError: the certificate cannot be used.
    """
    given = [address is not None, data_dir is not None, node is not None]
    if sum(given) > 1:
        raise UserError("an address, --data-dir and --node each name a node; give one of them")
    if address is not None:
        credentials = load_credentials(certs or Path("certs"), name)
        return Target((parse_address(address),), credentials, "", None, None)
    if certs is not None or name is not None:
        raise UserError("--certs and --name go with the address of a node, HOST:PORT; give one")
    if node is not None:
        data_dir = default_data_dir(node)
    return _local(data_dir if data_dir is not None else _only_one())


def _local(data_dir: Path) -> Target:
    directory = DataDirectory(data_dir)
    if why := obstacle(directory.path):
        raise UserError(f"the data directory {directory.path} cannot be used: {why}; give another --data-dir")
    if not holds_folder(directory.path):
        raise UserError(
            f"there is no data directory {directory.path}; give the one the node was started with"
        )
    endpoint = read_endpoint(directory.observe_path)
    if endpoint is None:
        raise UserError(
            f"no node runs on the data directory {directory.path}, or another user's does; start it with "
            "`p2pfl node`, or give the address of a node and --certs"
        )
    if not is_alive(endpoint):
        raise UserError(
            f"no node runs on the data directory {directory.path} any more: {one_line(endpoint.name, 64)} "
            f"(process {endpoint.pid}) was killed; start it again with `p2pfl node`"
        )
    try:
        credentials = load_credentials(Path(endpoint.certs))
    except CredentialsError as error:
        raise CredentialsError(
            f"the node on {directory.path} is observed with its own certificate, which cannot be used: "
            f"{error} Or give the node's address, and --certs with a certificate of role observer."
        ) from error
    addresses = tuple(_reachable(parse_address(text)) for text in endpoint.addresses)
    return Target(addresses, credentials, endpoint.token, endpoint.node, directory.path)


def is_alive(endpoint: Endpoint) -> bool:
    """Return whether the process that wrote *endpoint* still runs: a killed one leaves its file behind."""
    return is_running(endpoint.pid)


def _reachable(address: Address) -> Address:
    return Address(WILDCARDS.get(address.host, address.host), address.port)


def find_data_dir() -> Path:
    """Return this user's only data directory in the usual place, or of several the one whose node runs.

    Raises:
        UserError: there is none, or several without a single running node; the message names them.
    """
    place = default_place()
    found = [folder for folder in folders_in(place) if holds_file(DataDirectory(folder).journal_path)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"no node of yours has a data directory in {place}: give --data-dir DIR")
    running = [folder for folder, _ in _running(place)]
    if len(running) == 1:
        return running[0]
    names = ", ".join(quoted(folder) for folder in found)
    raise UserError(f"there are several data directories: give one with --data-dir ({names})")


def _running(place: Path) -> list[tuple[Path, Endpoint]]:
    """Return the data directories in *place* whose node runs, and how to watch each."""
    running: list[tuple[Path, Endpoint]] = []
    for folder in folders_in(place):
        endpoint = read_endpoint(DataDirectory(folder).observe_path)
        if endpoint is not None and is_alive(endpoint):
            running.append((folder, endpoint))
    return running


def _only_one() -> Path:
    """Return the data directory of this user's only running node in the usual place."""
    place = default_place()
    running = _running(place)
    if len(running) == 1:
        return running[0][0]
    if not running:
        raise UserError(
            f"no node of yours runs with a data directory in {place}: give --data-dir DIR, or the address "
            "of a node and --certs DIR"
        )
    names = ", ".join(one_line(endpoint.name, 64) for _, endpoint in running)
    raise UserError(f"several nodes of yours run here ({names}): pick one with --node NAME")
