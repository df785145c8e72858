"""The text of a systemd unit that runs a node, with what the node does not need taken from it.

What is left out on purpose, because a node needs it:

- `MemoryDenyWriteExecute`: torch compiles its kernels into memory that is written and then executed. A
  convolution fails with it ("could not create a primitive").
- `PrivateDevices`, `DevicePolicy` and `ProtectClock`, which closes devices too: they hide GPUs.
- `PrivateNetwork` and limits of addresses: peers may be anywhere.

See systemd.service(5) and systemd.exec(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pfl.exit_codes import ENDED_ON_REQUEST, NEEDS_A_PERSON

CLOSE_SECONDS = 15
"""Time that a node gets after its polite leave, before it is killed: closing links takes two seconds, and a
worker that hangs is killed after five."""

START_SECONDS = 300
"""Time until a node must listen. It verifies its journal before; on a small device that takes a while."""

RESTART_SECONDS = 10
"""Between the end of a node and its next start, such as while a disk is full."""

SANDBOX = {
    "NoNewPrivileges": "true",
    "LockPersonality": "true",
    "RestrictRealtime": "true",
    "RestrictSUIDSGID": "true",
    "RestrictNamespaces": "true",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "SystemCallErrorNumber": "EPERM",
    "KeyringMode": "private",
    "UMask": "0077",
}
"""Directives that need no privileges. Netlink lists the addresses of this device."""

FILE_SANDBOX = {
    "ProtectSystem": "strict",
    "ProtectHome": "read-only",
    "PrivateTmp": "true",
    "ProtectKernelTunables": "true",
    "ProtectControlGroups": "true",
}
"""Directives that mount file systems: a user's own manager needs user namespaces for them."""

SYSTEM_SANDBOX = {
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "ProtectKernelModules": "true",
    "ProtectKernelLogs": "true",
    "ProtectHostname": "true",
    "ProtectProc": "invisible",
}
"""Directives that only the manager of the system has."""

BIND_SERVICE = "CAP_NET_BIND_SERVICE"
"""What it takes to listen on a port below 1024."""


@dataclass(frozen=True)
class SystemdService:
    """What a unit runs, and for whom."""

    name: str
    """The name of the node."""
    federation: str
    words: Sequence[str]
    """Program and arguments; paths are absolute."""
    folder: Path
    """The working folder."""
    writable: Sequence[Path]
    """Folders that the node writes to."""
    leave_within: float
    user: str | None = None
    """The user of a unit of the system; None: a unit of the user's own manager."""
    state: str = ""
    """A folder below /var/lib that systemd makes for the node; empty: none."""
    variables: Sequence[str] = ()
    """Environment variables, as NAME=VALUE."""
    has_namespaces: bool = True
    """Whether this user's manager may use user namespaces."""
    low_port: bool = False
    """Whether the node listens on a port below 1024."""

    @property
    def is_of_system(self) -> bool:
        """Whether the manager of the system runs it."""
        return self.user is not None


def unit_name(name: str) -> str:
    """Return the name of the unit of the node *name*."""
    return f"p2pfl-{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.service"


def unit_text(service: SystemdService) -> str:
    """Return the unit of *service*."""
    return "\n".join(_lines(service)) + "\n"


def _lines(service: SystemdService) -> Iterator[str]:
    yield "# Written by `p2pfl service install`, which replaces it; your changes go into a drop-in."
    yield "[Unit]"
    yield f"Description=p2pfl node {_plain(service.name)} of federation {_plain(service.federation)}"
    if service.is_of_system:
        yield "Wants=network-online.target"
        yield "After=network-online.target"
    yield "StartLimitIntervalSec=0"
    yield ""
    yield "[Service]"
    yield "Type=notify"
    yield "NotifyAccess=main"
    if service.user is not None:
        yield f"User={service.user}"
    yield f"WorkingDirectory={_plain(str(service.folder))}"
    yield from (f"Environment={_quoted(one)}" for one in service.variables)
    yield f"ExecStart={' '.join(_word(word) for word in service.words)}"
    yield "ExecReload=kill -HUP $MAINPID"
    yield f"TimeoutStartSec={START_SECONDS}"
    yield "Restart=on-failure"
    yield f"RestartSec={RESTART_SECONDS}"
    yield f"RestartPreventExitStatus={' '.join(str(int(code)) for code in NEEDS_A_PERSON)}"
    yield f"SuccessExitStatus={' '.join(str(int(code)) for code in ENDED_ON_REQUEST)}"
    yield "KillSignal=SIGTERM"
    yield "# Only the node gets the signal; it ends its worker, and what is left after the time is killed."
    yield "KillMode=mixed"
    yield f"TimeoutStopSec={round(service.leave_within) + CLOSE_SECONDS}"
    yield ""
    yield from _sandbox(service)
    yield ""
    yield "[Install]"
    yield f"WantedBy={'multi-user.target' if service.is_of_system else 'default.target'}"


def _sandbox(service: SystemdService) -> Iterator[str]:
    directives = dict(SANDBOX)
    if service.is_of_system:
        directives |= FILE_SANDBOX | SYSTEM_SANDBOX
        if service.low_port:
            directives |= {"CapabilityBoundingSet": BIND_SERVICE, "AmbientCapabilities": BIND_SERVICE}
    elif service.has_namespaces:
        directives |= {"PrivateUsers": "true"} | FILE_SANDBOX
    else:
        yield "# This system lets no user make namespaces, so files are not protected from the node."
    yield from (f"{name}={value}" for name, value in directives.items())
    if "ProtectSystem" in directives:
        if service.state:
            yield f"StateDirectory={service.state}"
            yield "StateDirectoryMode=0700"
        # With "-" a folder that is missing is no reason not to start.
        yield from (f"ReadWritePaths={_quoted(f'-{path}')}" for path in service.writable)


def _plain(text: str) -> str:
    """Return *text* for a directive that takes the whole line."""
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Return *text* as one word of a directive that takes several."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if re.search(r"[^\w@%+=:,./-]", text) else escaped


def _word(text: str) -> str:
    """Return *text* as one word of a command line, in which variables are replaced."""
    return _quoted(text).replace("$", "$$") if text else '""'
