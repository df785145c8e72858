"""Checks whether the node can listen on its port."""

from __future__ import annotations

from p2pfl.config import NetSettings
from p2pfl.doctor.finding import Finding
from p2pfl.doctor.firewall import open_here
from p2pfl.errors import NetworkError, UserError
from p2pfl.identity.credentials import Credentials
from p2pfl.net.bulk.probing import probe
from p2pfl.net.transport import sockets
from p2pfl.net.transport.addresses import Address


async def check_port(host: str | None, port: int, credentials: Credentials | None) -> tuple[Finding, bool]:
    """Try to listen. If the port is taken, find out whether this device's own node has it (then true)."""
    try:
        for listening in sockets.listen(host, port):
            listening.close()
    except UserError as error:
        found = Finding("FAIL", str(error), commands=_who_listens(port))
        if credentials is not None:
            try:
                holder = await probe(Address(host or "localhost", port), credentials, NetSettings())
            except NetworkError:
                return found, False
            if holder.node_id == credentials.node_id:
                return Finding("ok", f"port {port}: this device's node is running and answers"), True
        return found, False
    return Finding(
        "ok",
        f"port {port} is free; other devices must be able to reach it through a firewall",
        commands=open_here(port),
    ), False


def _who_listens(port: int) -> tuple[str, ...]:
    return ("# which program listens there:", f"sudo ss -ltnp 'sport = :{port}'")
