"""What a judge says when an invariant of the design does not hold."""

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
    "possession",
    "progress",
    "roster",
    "stall",
    "update",
    "work",
]
"""Which invariant it is; the design names most of them so."""


class Violation(AssertionError):  # noqa: N818 - it is one, whoever raises it
    """An invariant of the design does not hold."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
