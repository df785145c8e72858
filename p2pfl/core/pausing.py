"""Decides when a run pauses by itself, and when a round waits for absent members.

A run whose members cannot train would commit empty rounds for ever. So it pauses and states the reason; an
operator resumes it after removing the cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from p2pfl.messages import Record, RosterEntry

UNPRODUCTIVE_ROUNDS = 3
"""The run pauses after this many consecutive rounds in which more members failed than trained. One or two
such rounds, for example after a killed worker, are no reason to pause."""


PAUSES = "so the run pauses"
"""Part of the note of each record that pauses the run automatically."""


class TrainingSummary(msgspec.Struct, frozen=True):
    """Training results of a closing round, as its aggregator has them."""

    counted: int
    """Number of aggregated updates."""
    failed: Mapping[str, str]
    """Reason by member name, for each member that could not train or sent an unusable update."""
    late: int
    """Number of selected, linked members that have not answered."""
    unproductive: int
    """Number of consecutive earlier rounds with fewer counted updates than members left out."""
    shortage: str = ""
    """Why the updates that came are too few for the strategy; empty if they are not."""


def decide_pausing(summary: TrainingSummary) -> tuple[bool, str]:
    """Return whether the run pauses with this round, and why; the record has the reason of each member."""
    failed, counted = summary.failed, summary.counted
    rounds = summary.unproductive + 1
    if summary.shortage:
        return rounds >= UNPRODUCTIVE_ROUNDS, f"the model stayed for {rounds} rounds, {PAUSES}"
    if failed and not counted and not summary.late:
        return True, f"nobody who is here could train, {PAUSES}"
    if len(failed) > counted and rounds >= UNPRODUCTIVE_ROUNDS:
        return True, f"for {rounds} rounds more members failed than trained, {PAUSES}"
    return False, f"{counted} trained, {len(failed)} failed"


def name_reasons(reasons: Mapping[str, str]) -> str:
    """Return the *reasons* by member name for people, each reason once."""
    return "; ".join(
        f"{', '.join(name for name, why in reasons.items() if why == reason)}: {reason}"
        for reason in dict.fromkeys(reasons.values())
    )


def count_unproductive(before: int, record: Record) -> int:
    """Return how many consecutive training rounds up to *record* left out more members than they counted."""
    if record.kind != "train":
        return before
    return before + 1 if len(record.left_out) > len(record.updates) else 0


def decide_holding(
    leaving: Sequence[str],
    roster: Sequence[RosterEntry],
    next_roster: Sequence[RosterEntry],
    *,
    is_wanted: bool,
) -> tuple[bool, str]:
    """Return whether the round waits for absent members, and why.

    A leaver that cannot be removed stays only for the quorum and does not train. Rounds committed meanwhile
    would train with too few members. A record that admits a member is not delayed: that member may be the one
    that is missing. *is_wanted* says that the record pauses or ends the run, which needs no training.
    """
    kept = [entry.name for entry in next_roster if entry.node in leaving]
    if not kept or is_wanted:
        return False, "nobody who leaves is needed"
    if any(entry not in roster for entry in next_roster):
        return False, "a member joins with this round"
    return True, f"{', '.join(kept)} leaving, and too few others are here: the round waits for another member"
