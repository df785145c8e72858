"""Texts for people: those from peers, made harmless before they are shown, logged or sent on; and counts."""

from __future__ import annotations

MAX_CHARACTERS = 200
"""Unless the caller sets another limit: decoders' errors quote a peer's bytes, which may be long."""


def one_line(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Return *text* as one printable line of at most *limit* characters."""
    flat = text
    if not text.isprintable():
        flat = "".join(character if character.isprintable() else "?" for character in text)
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def plural(count: int, noun: str) -> str:
    """Return *noun* as it stands behind *count*: "example" behind 1, "examples" behind all others."""
    if count == 1:
        return noun
    is_changed = noun.endswith("y") and not noun.endswith(("ay", "ey", "oy"))
    return f"{noun[:-1]}ies" if is_changed else f"{noun}s"
