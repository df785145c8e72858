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


class Step(IntEnum):
    """How far a candidate has come, as another member hears of it."""

    STANDS = 1
    COLLECTS = 2
    PROPOSES = 3


class Courtesy(msgspec.Struct, frozen=True):
    """What is left to one candidate."""

    ballot: Ballot
    step: Step
    began: float
    """When this member first heard of the ballot."""
    since: float
    """When it last heard of progress."""

    def until(self, round_cap: float) -> float:
        """Return when the courtesy ends if there is no more progress."""
        return min(self.since + round_cap, self.began + MOST * round_cap)


def hear(courtesy: Courtesy | None, ballot: Ballot, step: Step, now: float) -> Courtesy:
    """Return what is left to the node of *ballot* after it was heard at *step*."""
    if courtesy is None or courtesy.ballot != ballot:
        return Courtesy(ballot, step, now, now)
    return renew(courtesy, now, step=step) if step > courtesy.step else courtesy


def renew(courtesy: Courtesy, now: float, *, step: Step | None = None) -> Courtesy:
    """Return the courtesy after progress: a further step, a contribution noted, bytes that came."""
    return msgspec.structs.replace(courtesy, since=now, step=step or courtesy.step)
