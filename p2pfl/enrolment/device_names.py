"""The name that a device wishes for: made of its host name, and made valid."""

from __future__ import annotations

import re
import socket

FALLBACK = "device"


def host_device_name() -> str:
    """Return this device's host name as a device's name."""
    return valid_name(socket.gethostname().partition(".")[0])


def valid_name(text: str) -> str:
    """Return *text* as a valid name of a device: other characters become hyphens."""
    name = re.sub(r"[^a-z0-9._-]+", "-", text.casefold()).strip("._-")[:63].rstrip("._-")
    return name or FALLBACK
