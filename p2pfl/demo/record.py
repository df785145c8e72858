"""Writes the recording of a demo: what its first node reported and what only the demo knows, in one file.

`p2pfl tui --replay FILE` shows it. The demo's own lines are its killed and restarted nodes, and the models
that were trained alone.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from p2pfl.demo.control import REPORTS_FILE, DemoReport
from p2pfl.errors import UserError
from p2pfl.paths import full, shown
from p2pfl.runtime.observing.publish import earlier_file


class _Timed(msgspec.Struct):
    """The time of a line, which both kinds of lines have."""

    time: float


def check_place(path: Path) -> Path:
    """Return the full *path*; refuse one that cannot be written, before a demo runs for it.

    Raises:
        UserError: it is a folder, or it is in none that this user can write to.
    """
    target = full(path)
    if target.is_dir():
        raise UserError(f"--record {shown(path)} is a folder: name a file in it")
    if not os.access(target.parent, os.W_OK) or not target.parent.is_dir():
        raise UserError(
            f"--record {shown(path)} cannot be written: {shown(target.parent)} is no folder to write to"
        )
    return target


def write_recording(path: Path, events_path: Path, folder: Path, since: float) -> int:
    """Write what happened after *since* to *path*, in the order of time; return the number of lines.

    *events_path* is the events file of a node, and *folder* the demo's.

    Raises:
        UserError: a file cannot be read or written.
    """
    lines: list[tuple[float, bytes]] = []
    latest = since
    try:
        for line in _lines(earlier_file(events_path)) + _lines(events_path):
            time = _time_of(line)
            if time is not None and time >= since:
                latest = max(latest, time)  # the node's events keep their order
                lines.append((latest, line))
        lines += _reports(folder / REPORTS_FILE)
        lines.sort(key=lambda entry: entry[0])
        path.write_bytes(b"".join(line + b"\n" for _, line in lines))
    except OSError as error:
        raise UserError(f"the recording {shown(path)} cannot be written: {error.strerror}") from error
    return len(lines)


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []


def _time_of(line: bytes) -> float | None:
    try:
        return msgspec.json.decode(line, type=_Timed).time
    except msgspec.DecodeError:
        return None


def _reports(path: Path) -> list[tuple[float, bytes]]:
    found = []
    for line in _lines(path):
        with contextlib.suppress(msgspec.DecodeError):
            found.append((msgspec.json.decode(line, type=DemoReport).time, line))
    return found
