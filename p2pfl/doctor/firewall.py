"""The commands that let others in through a firewall. They are printed, never run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import Literal

Transport = Literal["tcp", "udp"]

MDNS_PORT = 5353

Which = Callable[[str], str | None]


def open_here(
    port: int, transport: Transport = "tcp", *, which: Which = shutil.which, system: str = sys.platform
) -> tuple[str, ...]:
    """Return the commands that let others reach *port* of this device, for the firewall it seems to have."""
    reason = f"# on this device, so that others reach {transport.upper()} port {port}:"
    if system == "darwin":
        return (reason, *_macos(which))
    if system == "win32":
        return (reason, _windows(port, transport))
    found = [commands for tool, commands in _linux(port, transport).items() if which(tool)]
    return (reason, *found[0]) if found else ()


def open_there(host: str, port: int, transport: Transport = "tcp") -> tuple[str, ...]:
    """Return the commands that let this device reach *port* of the device *host*, whose system is unknown."""
    lines = [
        f"# on the device {host}, for its firewall, so that others reach {transport.upper()} port {port}:"
    ]
    for tool, commands in _linux(port, transport).items():
        lines += [f"{command}    # {tool}" for command in commands]
    lines.append(f"{_windows(port, transport)}    # Windows")
    lines.append(
        "# macOS: System Settings, Network, Firewall, Options: allow incoming connections for Python"
    )
    return tuple(lines)


def _linux(port: int, transport: Transport) -> dict[str, tuple[str, ...]]:
    """Return the commands by tool; the one that administrators use most comes first."""
    return {
        "ufw": (f"sudo ufw allow {port}/{transport}",),
        "firewall-cmd": (
            f"sudo firewall-cmd --permanent --add-port={port}/{transport}",
            "sudo firewall-cmd --reload",
        ),
        "nft": (f"sudo nft insert rule inet filter input {transport} dport {port} accept",),
        "iptables": (f"sudo iptables -I INPUT -p {transport} --dport {port} -j ACCEPT",),
    }


def _macos(which: Which) -> tuple[str, ...]:
    python = which("python3") or "python3"
    tool = "sudo /usr/libexec/ApplicationFirewall/socketfilterfw"
    return (f"{tool} --add {python}", f"{tool} --unblockapp {python}")


def _windows(port: int, transport: Transport) -> str:
    return (
        f'netsh advfirewall firewall add rule name="p2pfl" dir=in action=allow protocol={transport.upper()} '
        f"localport={port}"
    )
