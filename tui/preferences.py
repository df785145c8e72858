"""What the terminal UI remembers of its user: the theme, in a file in the user's configuration directory.

Nothing here ever fails: without a home folder, or with a damaged file, there is just nothing remembered.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from p2pfl.paths import user_config

FILE = "tui.json"

MAX_BYTES = 4096
"""More than this program writes there."""


class Preferences(msgspec.Struct, frozen=True):
    """What is remembered."""

    theme: str | None = None
    """The full name of the theme that the user chose last."""


def load() -> Preferences:
    """Return what was remembered."""
    with contextlib.suppress(OSError, msgspec.DecodeError, ValueError):
        place = _place()
        if place is not None:
            with place.open("rb") as file:
                return msgspec.json.decode(file.read(MAX_BYTES), type=Preferences)
    return Preferences()


def save(preferences: Preferences) -> None:
    """Remember *preferences*, in a file that only this user can read."""
    with contextlib.suppress(OSError, ValueError):
        place = _place()
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            new = place.with_name(f"{FILE}.{os.getpid()}")
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(preferences))
            new.replace(place)


def _place() -> Path | None:
    folder = user_config("p2pfl")
    return folder / FILE if folder is not None else None
