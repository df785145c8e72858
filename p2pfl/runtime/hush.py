"""How much one peer may cause to be shown and answered here, whatever it says.

The protocol tells people of what peers do, and answers from the journal. A peer that says a thousand things a
second, each of them allowed, would fill terminals, logs and the journal's thread. So what it causes has a
budget too; what a run decides is shown always.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pfl import events
from p2pfl.core.effects import AnyEffect, Exit, SendRecords, Tell
from p2pfl.net.links.rate_limits import RateDecision, RateLimit, TokenBucket

LINES = RateLimit(10, 300)
"""Lines that one peer causes: a person reads some a second; a peer that comes back causes a few at once."""

ANSWERS = RateLimit(50, 500)
"""Answers from the journal to one peer: it asks for the next when it has one, and repeats each second."""

REMIND_SECONDS = 60.0
"""Before it is said again that a peer causes more than is shown."""

MAX_PEERS = 1024
"""Peers counted; what was counted of all is forgotten beyond."""

HUSHED = (
    events.Elected,
    events.EvaluationFinished,
    events.Notice,
    events.PeerDeviceInfo,
    events.PeerLeaving,
    events.Resumed,
    events.UpdateRefused,
    events.Waiting,
    events.ControlRequested,
    events.SteppedDown,
)
"""Events that a peer's words may cause without end; the others come with rounds, or once."""

ROUND_LINES = (events.Elected, events.EvaluationFinished)
"""Those that every round brings: counted apart, so that quick rounds do not hide why one waits."""


class Hush:
    """Counts what each peer causes."""

    def __init__(self) -> None:
        self._lines: dict[str, TokenBucket] = {}
        self._round_lines: dict[str, TokenBucket] = {}
        self._answers: dict[str, TokenBucket] = {}
        self._told: dict[str, float] = {}

    def filter(self, node: str, name: str, effects: Sequence[AnyEffect], now: float) -> list[AnyEffect]:
        """Return *effects*, which the peer *node* caused, without those that are too much."""
        if any(isinstance(effect, Exit) for effect in effects):
            return list(effects)
        kept: list[AnyEffect] = []
        for effect in effects:
            if isinstance(effect, SendRecords) and not _has_left(self._answers, node, ANSWERS, now):
                continue
            event = effect.event if isinstance(effect, Tell) else None
            lines = self._round_lines if isinstance(event, ROUND_LINES) else self._lines
            if isinstance(event, HUSHED) and not _has_left(lines, node, LINES, now):
                kept += self._reminder(node, name, now)
                continue
            kept.append(effect)
        return kept

    def _reminder(self, node: str, name: str, now: float) -> list[AnyEffect]:
        """Return the word that *node* causes more than is shown, once in a while."""
        if now < self._told.get(node, float("-inf")) + REMIND_SECONDS:
            return []
        if len(self._told) >= MAX_PEERS:
            self._told.clear()
        self._told[node] = now
        text = f"{name} ({node[:7]}) causes more lines here than anybody can read; the rest is not shown"
        return [Tell(events.Notice("warning", text))]


def _has_left(buckets: dict[str, TokenBucket], node: str, budget: RateLimit, now: float) -> bool:
    if node not in buckets:
        if len(buckets) >= MAX_PEERS:
            buckets.clear()
        buckets[node] = TokenBucket(budget, now)
    return buckets[node].take(1, now) is RateDecision.ACCEPT
