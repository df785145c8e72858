"""The lifetime of a certificate: when it is renewed, and when its end is announced.

Only dates: no file, no key, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from p2pfl.text import plural

CLOCK_ALLOWANCE = timedelta(days=1)
"""Certificates are valid from this long before their creation: a small device without a battery may boot with
yesterday's clock."""

WARNINGS = ((timedelta(days=30), 4), (timedelta(days=7), 12), (timedelta(days=1), 40))
"""When an end is announced: this long before it, but at most this part of the lifetime (a fourth, a twelfth,
a fortieth). So none is announced before it could have been renewed."""

SPREAD_PART = 12
"""Renewals are spread over this part of the lifetime, a month of a year: otherwise a hundred devices that got
their certificates in one afternoon would ask in one second."""


@dataclass(frozen=True)
class Lifetime:
    """The dates of one certificate."""

    not_before: datetime
    not_after: datetime

    @property
    def issued_at(self) -> datetime:
        """When it was made: its dates begin `CLOCK_ALLOWANCE` earlier, unless another program made it."""
        issued = self.not_before + CLOCK_ALLOWANCE
        return issued if issued < self.not_after else self.not_before

    @property
    def length(self) -> timedelta:
        """How long it was issued for."""
        return self.not_after - self.issued_at

    @property
    def renewed_from(self) -> datetime:
        """When it may be renewed: a third of its life before its end."""
        return self.not_after - self.length / 3

    def asks_at(self, place: float) -> datetime:
        """Return when its device asks for a new one; *place*, from 0 to 1, is the device's own random one."""
        return self.renewed_from + place * self.length / SPREAD_PART

    def announced_at(self) -> list[datetime]:
        """Return when its end is announced, the first one first."""
        return [self.not_after - min(before, self.length / part) for before, part in WARNINGS]

    def has_ended(self, now: datetime) -> bool:
        """Whether it has ended at *now*."""
        return now > self.not_after


def in_words(left: timedelta) -> str:
    """Return *left* in its largest unit, rounded down, such as "19 days"; never less than "0 minutes"."""
    minutes = max(0, int(left / timedelta(minutes=1)))
    for unit, size in (("day", 24 * 60), ("hour", 60)):
        if minutes >= size:
            count = minutes // size
            return f"{count} {plural(count, unit)}"
    return f"{minutes} {plural(minutes, 'minute')}"
