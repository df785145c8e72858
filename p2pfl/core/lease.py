"""The leader lease: how long a member lets a live candidate lead the round before it runs itself.

Only progress renews a lease, and the total time is bounded. A repeated COLLECT or ACCEPT is no progress: it
shows that the candidate's process runs, not that the round will complete.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from p2pfl.messages import Ballot

MAX_ROUND_CAPS = 4
"""Maximum length of all leases of one candidate in a round, in round caps, whatever progress it makes."""


class LeaseStep(IntEnum):
    """The last step of a candidate that another member has heard of."""

    STANDS = 1
    COLLECTS = 2
    PROPOSES = 3


class LeaderLease(msgspec.Struct, frozen=True):
    """The lease of one candidate."""

    ballot: Ballot
    step: LeaseStep
    began: float
    """When this member first heard of the ballot."""
    since: float
    """When this member last heard of progress."""

    def until(self, round_cap: float) -> float:
        """Return when the lease ends without further progress."""
        return min(self.since + round_cap, self.began + MAX_ROUND_CAPS * round_cap)


def hear(lease: LeaderLease | None, ballot: Ballot, step: LeaseStep, now: float) -> LeaderLease:
    """Return the lease of *ballot*'s candidate after a message that shows it at *step*."""
    if lease is None or lease.ballot != ballot:
        return LeaderLease(ballot, step, now, now)
    return renew(lease, now, step=step) if step > lease.step else lease


def renew(lease: LeaderLease, now: float, *, step: LeaseStep | None = None) -> LeaderLease:
    """Return the lease after progress: a later step, an acknowledged update, or received bytes."""
    return msgspec.structs.replace(lease, since=now, step=step or lease.step)
