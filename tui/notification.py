"""Desktop notifications: an escape sequence that terminals turn into one, also over SSH."""

from __future__ import annotations

from p2pfl.text import one_line

MAX_CHARACTERS = 200


def notification(title: str, text: str) -> str:
    """Return the sequences for a notification: OSC 777 and OSC 9; a terminal ignores what it does not know.

    Control characters in the texts, which would end a sequence, are escaped.
    """
    said, named = one_line(text, MAX_CHARACTERS), one_line(title, MAX_CHARACTERS).replace(";", ",")
    return f"\x1b]777;notify;{named};{said.replace(';', ',')}\x07\x1b]9;{named}: {said}\x07"
