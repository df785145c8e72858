"""Decides when a device asks for a new certificate, whom it asks, and what its user is told.

A pure state machine on the wall clock: certificates have dates, and a device that slept must notice. The
first question comes a third of the certificate's life before its end, later by a random time of the device's
own. Failed attempts are repeated with doubling waits. Without a holder of the CA in reach nothing is asked,
and the coming end is announced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from p2pfl.identity.lifetime import Lifetime

ANSWER = timedelta(seconds=30)
"""Patience for an answer: the CA's key may be encrypted, and many devices may ask at once."""

LONGEST_SPREAD = timedelta(minutes=1)
"""Longest random wait after a start, or after a holder was linked, of a device that is due already: a hundred
devices that are switched on together ask within a minute."""

FIRST_RETRY = (timedelta(seconds=1), timedelta(hours=1))
LONGEST_RETRY = (timedelta(seconds=1), timedelta(days=1))
"""Bounds of the first and of the longest wait after a failed attempt: for certificates of minutes and of
years."""


@dataclass(frozen=True)
class Ask:
    """Ask *holder* for a new certificate."""

    holder: str


@dataclass(frozen=True)
class Announce:
    """Tell the user that the certificate ends soon, or has ended."""

    has_ended: bool


Step = Ask | Announce


class RenewalPlan:
    """The plan for one certificate. Each method takes the time `now`."""

    def __init__(
        self,
        lifetime: Lifetime,
        now: datetime,
        draw: Callable[[], float],
        holders: Sequence[str] = (),
    ) -> None:
        """Plan the renewal of a certificate with *lifetime*; *draw* returns random numbers from 0 to 1.

        *holders* are the nodes in reach that can renew it.
        """
        self._lifetime = lifetime
        self._draw = draw
        self._holders = list(holders)
        self._failures = 0
        self._asked: str | None = None
        self._answer_until = now
        self._last_asked = ""
        self._told = 0
        spread = self._spread()
        self._ask_at = lifetime.asks_at(draw())
        if self._ask_at <= now:
            self._ask_at = now + draw() * spread
        self._quiet_until = now + spread
        """Nothing is announced earlier: after a start, holders are still being linked."""

    @property
    def holders(self) -> tuple[str, ...]:
        """The nodes in reach that can renew the certificate."""
        return tuple(self._holders)

    def holder_came(self, node: str, now: datetime) -> None:
        """Note that *node* is in reach and can renew certificates."""
        if node not in self._holders:
            self._holders.append(node)
            if self._asked is None and self._ask_at <= now:
                self._ask_at = now + self._draw() * self._spread()

    def holder_went(self, node: str, now: datetime) -> None:
        """Note that *node* is out of reach, or cannot renew certificates any more."""
        if node in self._holders:
            self._holders.remove(node)
        if self._asked == node:
            self.failed(now)

    def is_awaited_from(self, node: str) -> bool:
        """Whether an answer of *node* is awaited."""
        return self._asked == node

    def failed(self, now: datetime) -> None:
        """Note that the holder refused, or that what it sent cannot be used; it is tried again later."""
        self._asked = None
        self._failures += 1
        length = self._lifetime.length
        first = _bounded(length / 200, *FIRST_RETRY)
        longest = max(first, _bounded(length / 24, *LONGEST_RETRY))
        doubled = first * 2 ** min(self._failures - 1, 30)
        self._ask_at = now + min(doubled, longest) * (0.5 + self._draw())

    def tick(self, now: datetime) -> list[Step]:
        """Return what is due at *now*."""
        if self._asked is not None and now >= self._answer_until:
            self.failed(now)
        steps: list[Step] = []
        has_ended = self._lifetime.has_ended(now)
        if self._asked is None and self._holders and now >= self._ask_at and not has_ended:
            self._asked = self._last_asked = self._choose()
            self._answer_until = now + ANSWER
            steps.append(Ask(self._asked))
        due = sum(at <= now for at in self._announcements())
        if due > self._told and now >= self._quiet_until:
            self._told = due
            steps.append(Announce(has_ended))
        return steps

    def wake_at(self) -> datetime | None:
        """Return when `tick` must be called next; None if only a holder can change anything."""
        times = [max(at, self._quiet_until) for at in self._announcements()[self._told :][:1]]
        if self._asked is not None:
            times.append(self._answer_until)
        elif self._holders and self._ask_at <= self._lifetime.not_after:
            times.append(self._ask_at)
        return min(times, default=None)

    def _announcements(self) -> list[datetime]:
        return [*self._lifetime.announced_at(), self._lifetime.not_after + timedelta(microseconds=1)]

    def _choose(self) -> str:
        """Return a random holder, another one than the last time if possible."""
        others = [node for node in self._holders if node != self._last_asked] or self._holders
        return others[min(int(self._draw() * len(others)), len(others) - 1)]

    def _spread(self) -> timedelta:
        return min(LONGEST_SPREAD, self._lifetime.length / 100)


def _bounded(value: timedelta, least: timedelta, most: timedelta) -> timedelta:
    return max(least, min(value, most))
