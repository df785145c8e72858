"""When a node may go: after the end of its run, or on leaving it politely. Decisions with their reasons."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from p2pfl.core.roster import tolerance
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import quorum


class Other(msgspec.Struct, frozen=True):
    """A member of the last roster, or a learner that is linked, seen from a node whose run ended."""

    name: str
    confirmed: bool
    """Whether it said that the final record and its blobs are durable there (FINAL)."""
    given_up_at: float | None
    """When its link will have been down for `linger` seconds; None while it is linked."""


def decide_exit(
    others: Sequence[Other],
    *,
    holds: bool,
    serve_until: float,
    now: float,
    is_trained: bool = True,
    is_whole: bool = True,
    hopeless_at: float | None = None,
    flaw: str = "",
) -> tuple[ExitCode | None, str, float | None]:
    """Return the exit code, None to stay; why; and when to ask again if nothing happens.

    A node serves until everybody has the final model or has been unreachable for `linger` seconds; without
    the final model itself it waits for somebody who has it. One that was started on a finished run of its own
    stays until *serve_until*: for the model to be found on its own disk, then for whoever may come. A run is
    complete only if it trained all its rounds (*is_whole*) and not in vain (*is_trained*). Who cannot have
    the model of members that are linked (*flaw*) stops trying *hopeless_at*: all others wait for it.
    """
    if not holds and hopeless_at is not None and now >= hopeless_at:
        return ExitCode.NO_FINAL_MODEL, f"the run ended, but its final model could not be had: {flaw}", None
    open_ = [other for other in others if not (holds and other.confirmed)]
    waiting = [other for other in open_ if other.given_up_at is None or now < other.given_up_at]
    if waiting:
        times = [other.given_up_at for other in waiting if other.given_up_at is not None]
        last = max(times, default=None)
        if hopeless_at is not None and not holds:
            last = hopeless_at if last is None else min(last, hopeless_at)
        return None, f"serving {len(waiting)}", last
    if now < serve_until and not (holds and others):
        return None, "serving whoever comes", serve_until
    if not holds:
        return ExitCode.NO_FINAL_MODEL, "the run ended, but nobody reachable has its final model", None
    state = "is complete" if is_whole else "was stopped"
    if not is_trained:
        return (
            ExitCode.UNTRAINED,
            "the run ended, but no update was ever counted: its model is not trained",
            None,
        )
    if open_:
        names = ", ".join(other.name for other in open_)
        return ExitCode.COMPLETE, f"the run {state}; not known to have its final model: {names}", None
    return ExitCode.COMPLETE, f"the run {state} everywhere", None


class Legacy(msgspec.Struct, frozen=True):
    """What a leaver knows once a commit has dropped it."""

    holds: bool
    """Whether it has the last model: others may need it."""
    holders: int
    """Members of the roster without it that say they have that model, or a later one."""
    members: int
    """Members of that roster."""
    reachable: int
    """Those of them that are linked."""
    is_past: bool
    """Whether they have committed another record since: a quorum of them has its model."""
    dropped_at: float
    linger: float
    round_cap: float
    now: float


def decide_parting(legacy: Legacy) -> tuple[bool, str, float | None]:
    """Return whether a leaver that was dropped goes now, why, and when to ask again if nothing changes.

    The record that dropped it may have been accepted by leavers mostly. So each serves its model until a
    quorum of those who stay has it; as long as a quorum is there to take it, but no longer than a round may
    last.
    """
    needed = quorum(legacy.members)
    if not legacy.holds or legacy.is_past:
        return True, "the others have what they need", None
    if legacy.holders >= needed:
        return True, f"{legacy.holders} of the {legacy.members} others have the model", None
    patience = legacy.linger
    if legacy.reachable >= needed:
        patience = max(patience, legacy.round_cap)
    at = legacy.dropped_at + patience
    if legacy.now < at:
        return False, f"serving the model until {needed} of the {legacy.members} others have it", at
    return True, f"only {legacy.holders} of the {legacy.members} others have the model", None


class Farewell(msgspec.Struct, frozen=True):
    """What a node knows when its operator wants it to leave."""

    in_run: bool
    is_over: bool
    is_member: bool
    others: int
    """Other members of the roster."""
    reachable: int
    """Those of them that are linked."""
    leaving: int
    """Those linked that are leaving too."""


def decide_leaving(farewell: Farewell) -> tuple[bool, str]:
    """Return whether to go at once, and a sentence for the operator."""
    if not farewell.in_run or not farewell.is_member:
        return True, "this device is no member of a run"
    if farewell.is_over:
        return True, "the run is complete"
    size = farewell.others + 1
    if farewell.reachable + 1 < quorum(size):
        return True, (
            f"{farewell.reachable + 1} of {size} members are reachable, {quorum(size)} needed: "
            "the others cannot be told by a commit and will count this device as absent"
        )
    if farewell.reachable == farewell.leaving:
        return True, "nobody stays in the run: it can be resumed with the same command"
    staying = farewell.reachable - farewell.leaving
    if staying < quorum(farewell.others):
        return False, (
            f"without this device {staying} of {farewell.others} members are reachable, "
            f"{quorum(farewell.others)} needed: the run will pause. So it votes and serves until another is "
            "back, and leaves then; asked once more (Ctrl-C) it stops at once"
        )
    spare = tolerance(farewell.others)
    if farewell.others == 1:
        return False, "leaving with the next commit; the other member goes on alone"
    return (
        False,
        f"leaving with the next commit; the {farewell.others} others go on and tolerate the loss of "
        f"{spare or 'none'}",
    )
