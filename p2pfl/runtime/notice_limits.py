"""Rate-limits the notices and the answers that one peer's messages cause.

Messages of peers cause events, which are shown and logged, and answers, which are read from the journal. A
peer that sends thousands of valid messages per second would fill terminals, logs and the queue of the
journal's thread. So each peer has a limited rate of both. Events about the decisions of a run are never
dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pfl import events
from p2pfl.core.effects import AnyEffect, Exit, SendRecords, Tell
from p2pfl.net.links.rate_limits import RateDecision, RateLimit, TokenBucket

LINES = RateLimit(10, 300)
"""Limit of events from one peer: a person reads a few per second; a returning peer causes several at once."""

ANSWERS = RateLimit(50, 500)
"""Limit of answers from the journal to one peer. A peer requests the next answer when it has the last one,
and repeats a request every second."""

REMIND_SECONDS = 60.0
"""Minimum time between two warnings that events of the same peer are dropped."""

MAX_PEERS = 1024
"""Maximum number of peers in each table of limits; at more, the table is cleared."""

LIMITED_EVENTS = (
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
"""Events that a peer's messages may cause without limit. All others are caused by commits, or occur once."""

ROUND_LINES = (events.Elected, events.EvaluationFinished)
"""Those of them that occur in every round. They have a limit of their own, so that short rounds do not use up
that of the other events, such as the reason why a round waits."""


class PeerNoticeLimiter:
    """Drops effects beyond the limits of the peer that caused them."""

    def __init__(self) -> None:
        self._lines: dict[str, TokenBucket] = {}
        self._round_lines: dict[str, TokenBucket] = {}
        self._answers: dict[str, TokenBucket] = {}
        self._reminded: dict[str, float] = {}

    def filter(self, node: str, name: str, effects: Sequence[AnyEffect], now: float) -> list[AnyEffect]:
        """Return *effects*, caused by the peer *node*, without those beyond its limits.

        If the node is to exit, all are returned: the user must see the reason.
        """
        if any(isinstance(effect, Exit) for effect in effects):
            return list(effects)
        kept: list[AnyEffect] = []
        for effect in effects:
            if isinstance(effect, SendRecords) and not _has_left(self._answers, node, ANSWERS, now):
                continue
            event = effect.event if isinstance(effect, Tell) else None
            lines = self._round_lines if isinstance(event, ROUND_LINES) else self._lines
            if isinstance(event, LIMITED_EVENTS) and not _has_left(lines, node, LINES, now):
                kept += self._reminder(node, name, now)
                continue
            kept.append(effect)
        return kept

    def _reminder(self, node: str, name: str, now: float) -> list[AnyEffect]:
        """Return the warning that events of *node* are dropped; at most once in `REMIND_SECONDS`."""
        if now < self._reminded.get(node, float("-inf")) + REMIND_SECONDS:
            return []
        if len(self._reminded) >= MAX_PEERS:
            self._reminded.clear()
        self._reminded[node] = now
        text = f"{name} ({node[:7]}) causes more events than this node shows; the rest is not shown"
        return [Tell(events.Notice("warning", text))]


def _has_left(buckets: dict[str, TokenBucket], node: str, budget: RateLimit, now: float) -> bool:
    if node not in buckets:
        if len(buckets) >= MAX_PEERS:
            buckets.clear()
        buckets[node] = TokenBucket(budget, now)
    return buckets[node].take(1, now) is RateDecision.ACCEPT
