"""How long a member leaves the round to a live candidate: a courtesy, bounded, that only progress renews.

A repeated COLLECT or ACCEPT is no progress. It says that the candidate's process runs, not that its round
comes to an end.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from p2pfl.messages import Ballot

MOST = 4
"""Round caps a candidate has in all, however much progress it makes."""


class LeaseStep(IntEnum):
    """How far a candidate has come, as another member hears of it."""

    STANDS = 1
    COLLECTS = 2
    PROPOSES = 3


class LeaderLease(msgspec.Struct, frozen=True):
    """What is left to one candidate."""

    ballot: Ballot
    step: LeaseStep
    began: float
    """When this member first heard of the ballot."""
    since: float
    """When it last heard of progress."""

    def until(self, round_cap: float) -> float:
        """Return when the courtesy ends if there is no more progress."""
        return min(self.since + round_cap, self.began + MOST * round_cap)


def hear(lease: LeaderLease | None, ballot: Ballot, step: LeaseStep, now: float) -> LeaderLease:
    """Return what is left to the node of *ballot* after it was heard at *step*."""
    if lease is None or lease.ballot != ballot:
        return LeaderLease(ballot, step, now, now)
    return renew(lease, now, step=step) if step > lease.step else lease


def renew(lease: LeaderLease, now: float, *, step: LeaseStep | None = None) -> LeaderLease:
    """Return the courtesy after progress: a further step, a contribution noted, bytes that came."""
    return msgspec.structs.replace(lease, since=now, step=step or lease.step)
