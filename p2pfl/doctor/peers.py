"""Checks which node answers at each address, and names the symptom where none does.

The way a dial fails tells a firewall from a node that is off: packets that vanish, a refusal, no route, or an
answer of something else.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from p2pfl.config import NetSettings
from p2pfl.doctor.finding import Finding
from p2pfl.doctor.firewall import open_there
from p2pfl.doctor.subject import Reached, Subject
from p2pfl.errors import CredentialsError, HandshakeRefused, NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.exclusions import Exclusions
from p2pfl.identity.keys import short
from p2pfl.identity.known_peers import KnownPeer, read_known_peers
from p2pfl.net.bulk.probing import probe
from p2pfl.net.transport import sockets
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.resolver import RESOLVER
from p2pfl.observe.client import Observer
from p2pfl.observe.target import Target
from p2pfl.runtime.met_peers import addresses_of, linked_lately
from p2pfl.text import one_line

MAX_KNOWN = 16
"""Known nodes that are asked where no address is given."""

LIFT = "if it is to take part again, an operator lifts the ban with `p2pfl unban NAME`"

NO_ROUTE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


async def check_peers(subject: Subject) -> AsyncIterator[Finding]:
    """Ask all addresses at the same time, and report them in the order they were given.

    Where none was given, those of the nodes that this device met before.
    """
    credentials = subject.credentials
    if credentials is None:
        if subject.addresses:
            yield Finding("warn", "the peers were not asked: that takes a certificate")
        return
    own_port = subject.port if subject.is_running else None
    why_out = _who_is_out(credentials)
    addresses: dict[Address, str] = dict.fromkeys(subject.addresses, "")
    for peer in () if addresses else _known(credentials):
        name = one_line(peer.name)
        if why := one_line(why_out(peer.node, 0), 300):
            yield Finding("warn", f"{name}, which this device met before, {why}: it is not asked", LIFT)
        else:
            addresses |= dict.fromkeys(addresses_of(peer)[:1], name)
    question = ask if credentials.role == "node" else watch
    questions = [
        asyncio.ensure_future(question(address, credentials, subject.settings)) for address in addresses
    ]
    for name, asked in zip(addresses.values(), questions, strict=True):
        answer = await asked
        if isinstance(answer, Finding):
            yield _of_known(name, answer) if name else answer
            continue
        who = answer.identity
        if why := one_line(why_out(who.node_id, who.serial), 300):
            yield Finding("warn", f"{answer.address} is {who}, which {why}: there is no link with it", LIFT)
            continue
        finding = await judge(answer, credentials, subject.settings, own_port=own_port)
        if answer.identity.node_id != credentials.node_id:
            subject.reached.append(answer)
        yield finding


def _known(credentials: Credentials) -> list[KnownPeer]:
    """Return the nodes that this device met lately, the last one linked first."""
    met = linked_lately(read_known_peers(credentials.directory), time.time()).values()
    return sorted(met, key=lambda peer: -peer.at)[:MAX_KNOWN]


def _who_is_out(credentials: Credentials) -> Callable[[str, int], str]:
    """Return a function of node id and serial number of a certificate that says why that node is kept out."""
    try:
        return Exclusions(credentials).describe
    except CredentialsError:  # `check_exclusion` says it
        return lambda *_: ""


def _of_known(name: str, finding: Finding) -> Finding:
    """Return *finding* about node *name*, which nobody has named here: it may well be off."""
    return replace(finding, level="warn", text=f"{name}, which this device met before: {finding.text}")


async def ask(address: Address, credentials: Credentials, settings: NetSettings) -> Reached | Finding:
    """Return the node that answers at *address*, or the finding why none does."""
    try:
        return Reached(address, await probe(address, credentials, settings))
    except HandshakeRefused as error:
        return _refused(address, error)
    except NetworkError as error:
        return _unreached(address, error)


async def watch(address: Address, credentials: Credentials, settings: NetSettings) -> Reached | Finding:
    """Return whether the node at *address* lets a certificate that only watches or commands."""
    target = Target((address,), credentials, "", None, None)
    try:
        async with await Observer.connect(target, follow=False, settings=settings) as observer:
            greeting = observer.greeting
    except NetworkError as error:
        cause = error.__cause__
        if isinstance(cause, HandshakeRefused):
            return _refused(address, cause)
        return _unreached(address, cause if isinstance(cause, NetworkError) else error)
    may = "watch and command it" if greeting.may else "watch it"
    name = f"{one_line(greeting.name, 64)} ({short(greeting.node)})"
    return Finding("ok", f"{address} is {name}, and this certificate may {may}")


async def judge(
    reached: Reached, credentials: Credentials, settings: NetSettings, *, own_port: int | None
) -> Finding:
    """Judge which node answered.

    *own_port* is where this device's own node listens; None where none is known to run.
    """
    address, who = reached.address, reached.identity
    if who.node_id != credentials.node_id:
        return Finding("ok", f"{address} is {who}, and takes this device's certificate")
    infos = await RESOLVER.resolve(address, settings.dial_seconds)
    if own_port == address.port and all(sockets.is_own(where) for where in infos):
        return Finding("ok", f"{address} is this device itself")
    if own_port is not None:
        return Finding(
            "warn",
            f"{address} answers with this device's certificate ({credentials.name}), and this device does "
            "not listen there",
            "unless it is forwarded here, another device uses the same certificate, and needs its own from "
            "`p2pfl certs issue NAME`",
        )
    return Finding(
        "FAIL",
        f"{address} is a node that runs with this device's certificate ({credentials.name}), and a "
        "certificate is for one device",
        "if that node is another device's, issue this one its own with `p2pfl certs issue NAME`; if it is "
        "this device's, give its --listen here",
    )


def _unreached(address: Address, error: NetworkError) -> Finding:
    """Return the finding for an address to which no connection could be made."""
    cause, text = error.__cause__, f"{address} is not reached: {error}"
    host, port = address.host, address.port
    match cause:
        case TimeoutError():
            return Finding(
                "FAIL",
                text,
                "Packets to it vanish, as with a firewall that drops them, a device that is off, or a wrong "
                f"address: let TCP port {port} in on that device, and ping it",
                (*open_there(host, port), f"ping {host}"),
            )
        case ConnectionRefusedError():
            return Finding(
                "FAIL",
                text,
                f"The device is on and refuses: start its node with --listen {port}, or correct the port "
                "here; a firewall that rejects answers alike",
                (
                    f"# on the device {host}, what listens there:",
                    f"ss -ltn 'sport = :{port}'",
                    *open_there(host, port),
                ),
            )
        case OSError() if cause.errno in NO_ROUTE:
            return Finding(
                "FAIL",
                text,
                "No network leads there, or a firewall on the way rejects it: connect both devices to one "
                f"network, and let TCP port {port} in on that device",
                (f"ip route get {host}", *open_there(host, port)),
            )
    if "name" in str(error):
        return Finding(
            "FAIL",
            text,
            commands=(f"getent hosts {host}", f"avahi-resolve -n {host}    # for names in .local"),
        )
    return Finding("FAIL", text)


def _refused(address: Address, error: HandshakeRefused) -> Finding:
    """Return the finding for an address where something answered that is no peer of this device."""
    text = f"{address}: {error}"
    if "did not answer in time" in text:
        return Finding(
            "FAIL",
            text,
            "A TCP connection is made, and TLS gets no answer: a hanging device, another program's port, or "
            "large packets that are lost on the way, as with a VPN (MTU)",
            (
                f"ping -M do -s 1372 {address.host}    # must be answered",
                "ip link show    # the MTU of each interface",
            ),
        )
    return Finding("FAIL", text)
