"""Decides when a node may exit: after the end of its run, or when it leaves the run."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from p2pfl.core.roster import tolerance
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import quorum


class RemainingNode(msgspec.Struct, frozen=True):
    """A member of the last roster, or a linked learner, as seen by a node whose run has ended."""

    name: str
    confirmed: bool
    """Whether it reported that the final record and its blobs are durable there."""
    given_up_at: float | None
    """When its link will have been down for `linger` seconds; None while it is linked."""


def decide_exit(
    others: Sequence[RemainingNode],
    *,
    holds: bool,
    serve_until: float,
    now: float,
    is_trained: bool = True,
    is_whole: bool = True,
    hopeless_at: float | None = None,
    flaw: str = "",
) -> tuple[ExitCode | None, str, float | None]:
    """Return the exit code (None to stay), why, and when to ask again if nothing happens.

    A node serves the final model until every other node has it or has been unreachable for `linger` seconds.
    A node without the final model waits for a node that has it. A node that was started on a finished run
    stays until *serve_until*: first to find the model on its own disk, then to serve nodes that come late. A
    run is complete only if it trained all its rounds (*is_whole*) and counted at least one update
    (*is_trained*). A node that cannot pull the model from linked members (reason *flaw*) gives up at
    *hopeless_at*, because all others wait for it.
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
        return None, "serving nodes that come late", serve_until
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


class DroppedSituation(msgspec.Struct, frozen=True):
    """What a leaving node knows after a commit has removed it from the roster."""

    holds: bool
    """Whether it has the last model, which others may need."""
    holders: int
    """Members of the new roster that report that model or a later one."""
    members: int
    """Members of the new roster."""
    reachable: int
    """Members of the new roster that are linked."""
    is_past: bool
    """Whether they have committed a later record: then a quorum of them has its model."""
    dropped_at: float
    linger: float
    round_cap: float
    now: float


def decide_departure(legacy: DroppedSituation) -> tuple[bool, str, float | None]:
    """Return whether a removed leaver exits now, why, and when to ask again if nothing changes.

    The record that removed the leaver may have been accepted mostly by other leavers. So each leaver serves
    the model until a quorum of the remaining members has it, while that quorum is reachable, for at most one
    round cap.
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


def decide_expulsion(
    *, is_member: bool, is_over: bool, others: int, needed: int, linked: int
) -> tuple[bool, str]:
    """Return whether a node that is kept out ends now, and why.

    *others* counts the other members that are here and not kept out, *needed* is the quorum, and *linked* the
    members it is linked to. It votes on only where no record could remove it without its vote.
    """
    if not is_member or is_over:
        return True, "no record is needed to remove it"
    if others >= needed:
        return True, f"{others} others are here, {needed} are needed"
    if not linked:
        return True, "it is linked to no member"
    return False, f"{others} others are here, {needed} are needed: it votes until a record has removed it"


class LeaveSituation(msgspec.Struct, frozen=True):
    """What a node knows when its operator asks it to leave."""

    in_run: bool
    is_over: bool
    is_member: bool
    others: int
    """Number of other members of the roster."""
    reachable: int
    """Number of them that are linked."""
    leaving: int
    """Number of linked members that are leaving too."""


def decide_leaving(farewell: LeaveSituation) -> tuple[bool, str]:
    """Return whether to go at once, and a sentence for the operator."""
    if not farewell.in_run or not farewell.is_member:
        return True, "this device is no member of a run"
    if farewell.is_over:
        return True, "the run is complete"
    size = farewell.others + 1
    if farewell.reachable + 1 < quorum(size):
        return True, (
            f"{farewell.reachable + 1} of {size} members are reachable, {quorum(size)} needed: "
            "no commit can remove this device, so the others will count it as absent"
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
