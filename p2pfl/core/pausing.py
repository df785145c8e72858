"""When a run pauses by itself, and when a round waits: its members do not train. Decisions, with reasons.

A run that goes on without training only looks busy. So it pauses with the reason, and an operator who has
mended what was wrong resumes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from p2pfl.messages import Record, RosterEntry

FRUITLESS_ROUNDS = 3
"""Rounds of training in a row in which more members fail than train, after which the run pauses: a worker
that was killed once or twice is no reason."""


PAUSES = "so the run pauses"
"""In the note of each record that pauses the run by itself."""


class Harvest(msgspec.Struct, frozen=True):
    """What an aggregator has of a round of training that closes."""

    counted: int
    """Updates in the average."""
    failed: Mapping[str, str]
    """Members, by name, that could not train or whose update is of no use, and why."""
    late: int
    """Selected members that are here and have not answered."""
    fruitless: int
    """Rounds in a row before this one in which fewer updates were counted than members left out."""


def decide_pausing(harvest: Harvest) -> tuple[bool, str]:
    """Return whether the run pauses with this round, and why."""
    failed, counted = harvest.failed, harvest.counted
    told = "; ".join(
        f"{', '.join(name for name, why in failed.items() if why == reason)}: {reason}"
        for reason in dict.fromkeys(failed.values())
    )
    if failed and not counted and not harvest.late:
        return True, f"nobody who is here could train, {PAUSES}: {told}"
    rounds = harvest.fruitless + 1
    if len(failed) > counted and rounds >= FRUITLESS_ROUNDS:
        return True, f"for {rounds} rounds more members failed than trained, {PAUSES}: {told}"
    return False, f"{counted} trained, {len(failed)} failed"


def count_fruitless(before: int, record: Record) -> int:
    """Return how many rounds of training in a row, up to *record*, left out more members than counted."""
    if record.kind != "train":
        return before
    return before + 1 if len(record.left_out) > len(record.updates) else 0


def decide_holding(
    leaving: Sequence[str], next_roster: Sequence[RosterEntry], *, is_wanted: bool
) -> tuple[bool, str]:
    """Return whether the round waits for members that are away, and why.

    A leaver that cannot be dropped is there for the quorum only, and does not train. Rounds that commit
    meanwhile would train on those who are left, too few to decide anything alone. *is_wanted* says that the
    record is to pause or end the run: that needs no training.
    """
    kept = [entry.name for entry in next_roster if entry.node in leaving]
    if not kept or is_wanted:
        return False, "nobody who leaves is needed"
    return True, f"{', '.join(kept)} leaving, and too few others are here: the round waits for another member"
