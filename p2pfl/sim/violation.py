"""The error that a checker raises when an invariant of the protocol does not hold."""

from __future__ import annotations

from typing import Literal

Kind = Literal[
    "agreement",
    "ballot",
    "chain",
    "content",
    "durability",
    "identity",
    "monotone",
    "options",
    "possession",
    "progress",
    "roster",
    "stall",
    "update",
    "work",
]
"""The invariant that is violated."""


class Violation(AssertionError):  # noqa: N818 - a failed assertion
    """An invariant of the protocol does not hold."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
