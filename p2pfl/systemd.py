"""What systemd tells a service and what a service tells systemd; elsewhere nothing happens.

See sd_notify(3) and, for `JOURNAL_STREAM`, systemd.exec(5).
"""

from __future__ import annotations

import os
import socket
from typing import Any

READY = "READY=1"
STOPPING = "STOPPING=1"

MAX_STATUS = 200
"""Characters of a status: `systemctl status` shows one line."""


def is_journal(stream: Any) -> bool:
    """Return whether *stream* is connected to the journal, which adds the time of each line itself."""
    named = os.environ.get("JOURNAL_STREAM", "")
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):  # it is closed, or no stream of the system
        return False
    return bool(named) and named == f"{found.st_dev}:{found.st_ino}"


def notify(*states: str) -> None:
    """Tell the service manager the *states*, such as `READY`, if it has asked for that (`Type=notify`).

    A manager that does not listen is no reason to end: it has its own time limits.
    """
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return
    address = f"\0{place[1:]}" if place.startswith("@") else place
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(states).encode(errors="replace"), address)
    except OSError:
        return


def status(text: str) -> str:
    """Return the state that `systemctl status` shows as the line *text*."""
    return f"STATUS={text[:MAX_STATUS]}"
