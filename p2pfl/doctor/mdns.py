"""Checks multicast DNS: whether this device hears its own announcement, and which nodes it finds."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence

from p2pfl.discovery.announcements import NODE_PREFIX, read_node
from p2pfl.discovery.interfaces import Interface, usable_interfaces
from p2pfl.discovery.lan import HEARD_SECONDS
from p2pfl.discovery.responder import Responder, ZeroconfResponder
from p2pfl.discovery.services import Found, Service
from p2pfl.doctor.finding import Finding
from p2pfl.doctor.firewall import MDNS_PORT, open_here
from p2pfl.errors import NetworkError
from p2pfl.identity.credentials import Credentials

OTHERS_SECONDS = 1.5
"""Time for other nodes to answer, after the own announcement was heard."""

DISCARD_PORT = 9
"""Announced for a node that is to take any free port: nothing is announced with port 0."""

MAX_SHOWN = 16
"""Nodes that are named."""

OpenResponder = Callable[[Sequence[Interface]], Responder]

WITHOUT = "nodes still find each other by --peers HOST:PORT"


async def check_mdns(
    credentials: Credentials | None,
    port: int,
    *,
    look: Callable[[], Sequence[Interface]] = usable_interfaces,
    open_responder: OpenResponder = ZeroconfResponder,
    seconds: float = HEARD_SECONDS,
    others_seconds: float = OTHERS_SECONDS,
) -> Finding:
    """Announce something that no node takes for one, and listen for it and for other nodes."""
    interfaces = look()
    if not interfaces:
        return Finding(
            "warn",
            "mDNS: this device has no network interface that leads to other devices",
            f"connect it to a network; {WITHOUT}",
        )
    names = ", ".join(one.name for one in interfaces)
    own = Service("node", f"doctor-{secrets.token_hex(8)}", port or DISCARD_PORT)
    heard, found = asyncio.Event(), dict[str, Found]()
    instance = ""

    def notice(name: str, what: Found | None) -> None:
        if name in (instance, own.instance):
            heard.set()
        elif what is not None:
            found[name] = what

    try:
        responder = open_responder(interfaces)
    except NetworkError as error:
        return Finding("warn", f"mDNS does not work on {names}: {error}", WITHOUT)
    try:
        end = responder.browse("node", notice)
        try:
            instance = await responder.announce(own, interfaces)
            async with asyncio.timeout(seconds):
                await heard.wait()
            await asyncio.sleep(others_seconds)
        finally:
            end()
            if instance:
                with contextlib.suppress(NetworkError):
                    await responder.withdraw(instance)
    except TimeoutError:
        return Finding(
            "warn",
            f"mDNS: this device does not hear its own announcement on {names}: its firewall or its network "
            "blocks multicast, so it may neither find other devices nor be found",
            f"let UDP port {MDNS_PORT} in, and turn off client isolation of the Wi-Fi; {WITHOUT}",
            open_here(MDNS_PORT, "udp"),
        )
    except NetworkError as error:
        return Finding("warn", f"mDNS does not work on {names}: {error}", WITHOUT)
    finally:
        await responder.close()
    return Finding("ok", f"mDNS works on {names}; {_others(found, credentials)}")


def _others(found: dict[str, Found], credentials: Credentials | None) -> str:
    """Return which other nodes announce themselves."""
    own = credentials.node_id[:NODE_PREFIX] if credentials is not None else ""
    places = []
    for one in found.values():
        announcement = read_node(one)
        if announcement is not None and announcement.node != own and one.addresses:
            host = f"[{one.addresses[0]}]" if ":" in one.addresses[0] else one.addresses[0]
            places.append(f"{announcement.node[:7]} at {host}:{one.port}")
    if not places:
        return "no other node announces itself"
    shown = ", ".join(sorted(places)[:MAX_SHOWN])
    return f"nodes that announce themselves: {shown}"
