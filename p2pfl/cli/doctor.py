"""`p2pfl doctor`: checks whether a node can run on this device, and says what to do about what is missing.

It changes nothing: it creates no data directory and no link, and a running federation does not notice it. The
command prints each finding at once, since a peer that does not answer takes a while.
"""

from __future__ import annotations

import asyncio
import platform
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from p2pfl.errors import HandshakeRefused, NetworkError, P2pflError, TaskError, UserError
from p2pfl.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from p2pfl.identity.credentials import Credentials
    from p2pfl.identity.peer import PeerIdentity
    from p2pfl.learning.data import DataPlaces
    from p2pfl.net.transport.addresses import Address

SOON = timedelta(days=30)
"""A certificate that expires within this time is reported: a month to visit every device."""

LOW_DISK_BYTES = 2 * 1024**3
"""Less free space than this is reported: a node keeps about five files of a model's size, and logs."""

LEAST_DISK_BYTES = 100 * 1024**2
"""Free space that even a run of a small model needs, with its logs."""

MARKS = {"ok": "✓", "warn": "!", "FAIL": "✗"}

PACKAGES = ("torch", "numpy", "safetensors", "cryptography", "msgspec", "blake3", "psutil", "platformdirs")
"""Packages that a node and its worker need. They are not imported for the check: torch takes seconds."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: Literal["ok", "warn", "FAIL"]
    """"FAIL": a node cannot run, or a peer cannot be reached. "warn": may become a problem."""
    text: str

    def __str__(self) -> str:
        return f"{MARKS[self.level]} {self.level:<4}  {self.text}"


def doctor(
    certs: Annotated[
        Path, typer.Option("--certs", metavar="DIR", help="Folder made by 'p2pfl certs issue'.")
    ] = Path("certs"),
    name: Annotated[
        str | None, typer.Option("--name", metavar="N", help="Which certificate of --certs to use.")
    ] = None,
    peers: Annotated[
        str,
        typer.Option("--peers", metavar="A:PORT,B:PORT", help="Addresses of nodes that should be reachable."),
    ] = "",
    listen: Annotated[
        str, typer.Option("--listen", metavar="[HOST:]PORT", help="Where the node is to listen.")
    ] = "9000",
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="The node's data directory.")
    ] = None,
    task: Annotated[str, typer.Option("--task", metavar="T", help="The task to train.")] = "digits",
    data_root: Annotated[
        Path | None,
        typer.Option("--data-root", metavar="DIR", help="Search for data sets in this folder only."),
    ] = None,
) -> None:
    """Check whether a node can run on this device, and say what is missing."""
    from p2pfl.learning.data import DataPlaces
    from p2pfl.net.transport.addresses import parse_address, parse_listen
    from p2pfl.paths import full

    host, port = parse_listen(listen)
    addresses = [parse_address(part) for part in peers.split(",") if part.strip()]
    failures = 0

    def tell(finding: Finding) -> Finding:
        nonlocal failures
        failures += finding.level == "FAIL"
        typer.echo(str(finding))
        return finding

    tell(check_software())
    credentials, finding = check_certificate(certs, name)
    tell(finding)
    finding, is_running = asyncio.run(check_port(host, port, credentials))
    tell(finding)
    place = _data_dir(data_dir, credentials)
    tell(place if isinstance(place, Finding) else check_disk(place, is_running=is_running))
    places = DataPlaces(data_root and full(data_root))
    tell(check_task(task, places))
    tell(survey_data(places))
    asyncio.run(_check_peers(addresses, credentials, tell, own_port=port if is_running else None))
    if failures:
        typer.echo(f"{failures} of these to solve ({MARKS['FAIL']}); then run this again.")
        raise typer.Exit(ExitCode.FAILED)
    typer.echo("A node can run here.")


def check_software(packages: Sequence[str] = PACKAGES) -> Finding:
    """Check the versions of Python and the packages."""
    missing = []
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        return Finding(
            "FAIL", f"not installed: {', '.join(missing)}; install p2pfl again, as its README says"
        )
    return Finding("ok", f"Python {platform.python_version()}, torch {versions.get('torch', '-')}")


def check_certificate(
    directory: Path, name: str | None, now: datetime | None = None
) -> tuple[Credentials | None, Finding]:
    """Check this device's certificate, its dates against the clock (*now*, unless given)."""
    from p2pfl.identity.credentials import load_credentials, show_time
    from p2pfl.identity.keys import short
    from p2pfl.paths import full

    now = now or datetime.now(UTC)
    try:
        full(directory)  # a node tells observers where its certificate lies
        credentials = load_credentials(directory, name, now=now)
    except P2pflError as error:
        return None, Finding("FAIL", str(error))
    who = (
        f"{credentials.name} ({short(credentials.node_id)}), {credentials.role} of {credentials.federation!r}"
    )
    left = credentials.not_after - now
    until = f"certificate valid until {show_time(credentials.not_after)}; the clock shows {show_time(now)}"
    if left < SOON:
        return credentials, Finding(
            "warn",
            f"{who}: {until}: {left.days} days left; renew it with "
            f"`p2pfl certs issue {credentials.name} --renew` where the CA's key is",
        )
    if credentials.role != "node":
        return credentials, Finding(
            "FAIL",
            f"{who}: this certificate lets nobody train; issue one with `p2pfl certs issue NAME --role node`",
        )
    return credentials, Finding("ok", f"{who}: {until}")


async def check_port(host: str | None, port: int, credentials: Credentials | None) -> tuple[Finding, bool]:
    """Try to listen. If the port is taken, find out whether this device's own node has it (then true)."""
    from p2pfl.config import NetSettings
    from p2pfl.net.bulk.probing import probe
    from p2pfl.net.transport import sockets
    from p2pfl.net.transport.addresses import Address

    try:
        for listening in sockets.listen(host, port):
            listening.close()
    except UserError as error:
        if credentials is not None:
            try:
                holder = await probe(Address(host or "localhost", port), credentials, NetSettings())
            except NetworkError:
                return Finding("FAIL", str(error)), False
            if holder.node_id == credentials.node_id:
                return Finding("ok", f"port {port}: this device's node is running and answers"), True
        return Finding("FAIL", str(error)), False
    return Finding(
        "ok", f"port {port} is free; other devices must be able to reach it through a firewall"
    ), False


def check_disk(directory: Path | None, *, is_running: bool = False, free: int | None = None) -> Finding:
    """Check whether a node can write in *directory* and can read what is there.

    *is_running* says that a node is known to use it now. *free* is the free space in bytes, unless given the
    disk's.
    """
    from p2pfl.paths import is_there
    from p2pfl.store.directory import DataDirectory

    if directory is None:
        return Finding("warn", "the data directory was not looked at: without a certificate it has no name")
    existing = directory
    try:
        place = DataDirectory(directory)
        place.check()
        existing = next(path for path in (place.path, *place.path.parents) if is_there(path))
        with tempfile.TemporaryFile(dir=existing):
            pass
        free = shutil.disk_usage(existing).free if free is None else free
        if is_there(place.journal_path):
            with place.read_journal() as journal:
                if refused := journal.refused():
                    return Finding("FAIL", f"the data directory {place.path} cannot be used: {refused}")
            if not is_running:
                place.open().close()
    except OSError as error:
        return Finding(
            "FAIL",
            f"{existing} cannot be written to ({error.strerror or error}); choose another --data-dir",
        )
    except P2pflError as error:
        return Finding("FAIL", str(error))
    if free < LOW_DISK_BYTES:
        level: Literal["warn", "FAIL"] = "FAIL" if free < LEAST_DISK_BYTES else "warn"
        return Finding(
            level, f"only {_size(free)} free for {place.path}; make room, or choose another --data-dir"
        )
    state = "in use by this device's node" if is_running else "ready"
    if not is_there(place.journal_path):
        state = "new: the node will make it"
    return Finding("ok", f"data directory {place.path}: {state}, {_size(free)} free")


def check_task(name: str, places: DataPlaces) -> Finding:
    """Check whether the task is known and its data are on this device."""
    from p2pfl.learning import catalogue

    try:
        entry = catalogue.find(name)
        paths = catalogue.find_data(name, places)
        size = sum(path.stat().st_size for path in paths)
    except TaskError as error:
        return Finding("FAIL", str(error))
    except OSError as error:
        return Finding("FAIL", f"the data of the task {name!r} cannot be read: {error.strerror or error}")
    return Finding("ok", f"task {entry.name}: {entry.summary} ({size:,} bytes in {paths[0].parent})")


def survey_data(places: DataPlaces) -> Finding:
    """Report the tasks whose data are here: a run that another device founded may need any of them."""
    from p2pfl.learning import catalogue

    here, missing = [], []
    for name in catalogue.CATALOGUE:
        try:
            catalogue.find_data(name, places)
        except TaskError:
            missing.append(name)
        else:
            here.append(name)
    text = f"data here: {', '.join(here)}"
    if missing:
        text += f"; not here: {', '.join(missing)} (a node gets them with --download)"
    return Finding("ok", text)


async def check_peer(address: Address, credentials: Credentials, *, own_port: int | None = None) -> Finding:
    """Find out which node answers at *address*.

    *own_port* is where this device's own node listens; None where none is known to run.
    """
    from p2pfl.config import NetSettings
    from p2pfl.net.bulk.probing import probe
    from p2pfl.net.transport import sockets
    from p2pfl.net.transport.resolver import RESOLVER

    settings = NetSettings()
    try:
        who: PeerIdentity = await probe(address, credentials, settings)
        infos = await RESOLVER.resolve(address, settings.dial_seconds)
    except HandshakeRefused as error:
        return Finding("FAIL", f"{address}: {error}")
    except NetworkError as error:
        return Finding("FAIL", f"{address} is not reached: {error}")
    if who.node_id == credentials.node_id:
        if own_port == address.port and all(sockets.is_own(where) for where in infos):
            return Finding("ok", f"{address} is this device itself")
        if own_port is not None:
            return Finding(
                "warn",
                f"{address} answers with this device's certificate ({credentials.name}), and this device "
                "does not listen there: unless it is forwarded here, another device uses the same "
                "certificate, and needs its own from `p2pfl certs issue NAME`",
            )
        return Finding(
            "FAIL",
            f"{address} is a node that runs with this device's certificate ({credentials.name}), and a "
            "certificate is for one device. If that node is another device's, issue this one its "
            "own; if it is this device's, give its --listen here",
        )
    return Finding("ok", f"{address} is {who}, and takes this device's certificate")


async def _check_peers(
    addresses: Sequence[Address],
    credentials: Credentials | None,
    tell: Callable[[Finding], Finding],
    *,
    own_port: int | None,
) -> None:
    """Check all peers at the same time, and report them in the order they were given."""
    if credentials is None:
        if addresses:
            tell(Finding("warn", "the peers were not asked: that takes a certificate"))
        return
    questions = [check_peer(address, credentials, own_port=own_port) for address in addresses]
    for asked in [asyncio.ensure_future(question) for question in questions]:
        tell(await asked)


def _data_dir(given: Path | None, credentials: Credentials | None) -> Path | Finding | None:
    """Return the node's data directory, or a finding why there is none; None if it is unknown."""
    from p2pfl.store.directory import default_data_dir

    if given is not None or credentials is None:
        return given
    try:
        return default_data_dir(credentials.name)
    except UserError as error:  # no home folder
        return Finding("FAIL", str(error))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
