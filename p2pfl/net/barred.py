"""Nodes that could not be reached, for as long as it makes no sense to try again.

The longer a failed try took, the longer the next one waits, so that only a small share of the time is spent
on a node that nothing reaches. Pure: the caller brings the time.
"""

from __future__ import annotations

FACTOR = 4.0
"""Times what a failed try took: at most a fifth of the time is spent on trying."""

MOST_SECONDS = 20.0
"""Until the next try: a mended network is used soon, also where the link never broke."""

MAX_NODES = 1024
"""Nodes remembered; the oldest is forgotten first, which costs a try."""


class Barred:
    """Who is not tried again yet, and why the last try failed."""

    def __init__(self, least_seconds: float = 0.0) -> None:
        """Remember nobody yet; *least_seconds* pass until the next try, however quickly one failed."""
        self._least_seconds = least_seconds
        self._until: dict[str, tuple[float, str]] = {}

    def reason(self, node: str, now: float) -> str | None:
        """Return why the last try of *node* failed if it is too early for the next one."""
        until, reason = self._until.get(node, (now, ""))
        return reason if now < until else None

    def failed(self, node: str, reason: str, began: float, now: float) -> None:
        """Take note that a try of *node* that *began* then has failed *now*."""
        rest = min(max(FACTOR * (now - began), self._least_seconds), MOST_SECONDS)
        self._until.pop(node, None)
        self._until[node] = (now + rest, reason)
        if len(self._until) > MAX_NODES:
            del self._until[next(iter(self._until))]

    def forget(self, node: str) -> None:
        """Let *node* be tried at once."""
        self._until.pop(node, None)
