"""What a check found: a state, a sentence, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "FAIL"]

MARKS: dict[Level, str] = {"ok": "✓", "warn": "!", "FAIL": "✗"}


NOBODY_TRAINS = "this certificate lets nobody train"
"""Said of a certificate that watches or commands, which is one thing for a node and another for a screen."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: Level
    """"FAIL": a node cannot run, or a peer cannot be reached. "warn": may become a problem."""
    text: str
    """What was found. Where an error has its own advice, that is part of it."""
    advice: str = ""
    """What to do, as a sentence; empty if nothing is to be done, or `text` says it."""
    commands: tuple[str, ...] = ()
    """Commands that may help, for a person to read and run; a line with "#" says where."""

    def __str__(self) -> str:
        line = f"{MARKS[self.level]} {self.level:<4}  {self.text}"
        return f"{line}\n        → {self.advice}" if self.advice else line


def size_text(count: float) -> str:
    """Return a number of bytes for people."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
