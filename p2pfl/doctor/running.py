"""Looks for a node that already runs on this device with this device's key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from p2pfl.doctor.finding import Finding
from p2pfl.errors import UserError
from p2pfl.identity.credentials import Credentials
from p2pfl.net.transport.addresses import parse_address
from p2pfl.observe.target import is_alive
from p2pfl.paths import folders_in
from p2pfl.runtime.observing.endpoint import Endpoint, read_endpoint
from p2pfl.store.directory import DataDirectory, default_place


def check_running(credentials: Credentials, data_dir: Path | None, port: int) -> Finding | None:
    """Report a node that runs here with this device's key, besides the one on *port*; None if there is none.

    It is found by what it wrote into its data directory: *data_dir*, or one in the usual place.
    """
    for folder, endpoint in _running(data_dir):
        ports = [parse_address(text).port for text in endpoint.addresses]
        if endpoint.node == credentials.node_id and port not in ports:
            return Finding(
                "FAIL",
                f"another node runs here with the certificate of {credentials.name}: process {endpoint.pid}, "
                f"on {', '.join(endpoint.addresses)}, with the data directory {folder}",
                "a certificate is for one node: end that node first, or issue a second one a certificate of "
                "its own with `p2pfl certs issue NAME`",
                (f"kill {endpoint.pid}    # it leaves politely",),
            )
    return None


def _running(data_dir: Path | None) -> Iterator[tuple[Path, Endpoint]]:
    """Yield the data directories of this user whose node runs, and what it wrote there."""
    try:
        usual = folders_in(default_place())
    except UserError:  # no home folder
        usual = []
    for folder in dict.fromkeys([*([data_dir] if data_dir is not None else []), *usual]):
        endpoint = read_endpoint(DataDirectory(folder).observe_path)
        if endpoint is not None and is_alive(endpoint):
            yield folder, endpoint
