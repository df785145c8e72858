"""The updates an aggregator gathers in one ballot, and when it has enough (rules 9 and 10).

`decide_closing` is the decision; `Collection` is the state it looks at. A member's update passes through
announced (its blob is being pulled and checked), then counted; or it is refused with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from p2pfl.messages import Evaluation, Member, Submit, UpdateEntry


class Stage(Enum):
    """How far one member's contribution has come."""

    ANNOUNCED = "its update is being pulled"
    COUNTED = "its update is here, checked and counted"
    REFUSED = "its update was refused"
    DECLINED = "it declined"
    NOTHING = "it has nothing but its evaluation to give"

    @property
    def is_final(self) -> bool:
        """Whether nothing more is to be expected of the member in this ballot."""
        return self is not Stage.ANNOUNCED


@dataclass
class Contribution:
    """What one member gave."""

    stage: Stage
    update: UpdateEntry | None = None
    reason: str = ""
    """Why it was refused or declined."""
    evaluation: Evaluation | None = None


PULL_TRIES = 3
"""Times the pull of an announced update may fail, while its member is linked, before the round goes on
without it. Each time every holder was asked, and the member announces it again a second later."""


@dataclass
class Collection:
    """All contributions of one ballot."""

    selected: set[str]
    """Members whose updates are wanted: the sample, later perhaps more."""
    enough: int
    """Effective `min_updates`: at most the members selected at first, however many are asked later."""
    contributions: dict[str, Contribution] = field(default_factory=dict)
    failed_pulls: dict[str, int] = field(default_factory=dict)
    """By member, how often its update could not be pulled."""
    failures: dict[str, str] = field(default_factory=dict)
    """By member, why not, the last time."""

    def at(self, *stages: Stage) -> list[str]:
        """Return the members whose contribution is at one of *stages*."""
        return [node for node, one in self.contributions.items() if one.stage in stages]

    def is_done(self, node: str) -> bool:
        """Whether nothing more is to be expected of *node*."""
        contribution = self.contributions.get(node)
        return contribution is not None and contribution.stage.is_final

    def with_blob(self, digest: str, stage: Stage = Stage.ANNOUNCED) -> list[str]:
        """Return the members at *stage* whose update is blob *digest*."""
        return [
            node
            for node, one in self.contributions.items()
            if one.stage is stage and one.update is not None and one.update.digest == digest
        ]

    def counted(self, order: Callable[[Iterable[str]], list[str]]) -> tuple[UpdateEntry, ...]:
        """Return the counted updates, in the *order* of their nodes."""
        chosen = (self.contributions[node].update for node in order(self.at(Stage.COUNTED)))
        return tuple(update for update in chosen if update is not None)


def judge(member: Member, message: Submit, max_samples: int, *, is_training: bool) -> Contribution:
    """Take *message* of *member* as a contribution; what is refused before its blob is pulled, and why."""
    update, evaluation = message.update, message.evaluation
    if update is None:
        stage = Stage.DECLINED if message.declined else Stage.NOTHING
        return Contribution(stage, reason=message.declined, evaluation=evaluation)
    if update.node != member.node or update.journal != member.journal:
        reason = "it was announced in another member's name"
    elif update.samples > max_samples:
        reason = f"it claims {update.samples} samples, more than the {max_samples} a member can hold"
    elif not is_training:
        reason = "the closing round takes no updates"
    else:
        return Contribution(Stage.ANNOUNCED, update, evaluation=evaluation)
    return Contribution(Stage.REFUSED, update, reason, evaluation)


def decide_pulling_again(failed: int, *, is_invalid: bool, is_known: bool) -> tuple[bool, str]:
    """Return whether an update whose pull has *failed* so often is waited for any more, and why.

    *is_invalid* says that its bytes are here and of no use, or are not those that were announced; *is_known*
    that nothing could be pulled from its member in earlier rounds either.
    """
    if is_invalid:
        return False, "its update is of no use"
    if failed >= (1 if is_known else PULL_TRIES):
        return False, "its update could not be pulled"
    return True, "it is announced again and pulled then"


class Awaited(msgspec.Struct, frozen=True):
    """A member that has not given everything yet."""

    node: str
    expected_at: float | None
    """When its straggler deadline passes, by its own prediction; None while it has made none."""
    gone_at: float | None
    """When it will count as gone; None while it is reachable, or is still pulled from."""
    has_update: bool = False
    """Whether it has its update, as far as it said: only the way here is left."""


class CollectionProgress(msgspec.Struct, frozen=True):
    """What an aggregator knows when it asks whether the round can close."""

    now: float
    awaited: Sequence[Awaited]
    """Members that are neither done nor gone nor leaving."""
    counted: int
    """Updates that are here and checked."""
    enough: int
    """See `Collection.enough`."""
    cap_at: float
    """When the round closes with what is there."""
    last_call: float = 0.0
    """When this ballot closes also without the updates that members have already; not before `cap_at`."""
    has_quorum: bool = True
    """Whether enough members are reachable for the round to commit."""
    held: str = ""
    """Why the round may not close although it could; see `p2pfl.core.pausing.decide_holding`."""


class Closing(Enum):
    """What to do about a round that collects."""

    WAIT = "wait"
    MORE = "ask members outside the sample"
    CLOSE = "close"


def decide_closing(progress: CollectionProgress) -> tuple[Closing, str, float | None]:
    """Return what to do, why, and when to ask again if nothing happens.

    A slow device that works is never cut before its own deadline; only silence or the cap cuts. `MORE` means
    that everybody has been waited for and too few updates came: the caller selects more members where there
    are some, otherwise it closes. The cap is one of training: a later ballot of the round, which begins after
    it, still takes the updates that are there.
    """
    if not progress.has_quorum:
        return Closing.WAIT, "no quorum is reachable, and who comes back may bring an update", None
    if progress.held:
        return Closing.WAIT, progress.held, None
    if progress.now >= progress.cap_at:
        ready = sum(one.has_update for one in progress.awaited)
        if ready and progress.now < progress.last_call:
            return Closing.WAIT, f"the updates of {ready} are there and on their way", progress.last_call
        return Closing.CLOSE, "the round's cap has passed", None
    late = [
        one for one in progress.awaited if one.expected_at is not None and one.expected_at <= progress.now
    ]
    if progress.awaited and (len(late) < len(progress.awaited) or progress.counted < progress.enough):
        times = [
            time for one in progress.awaited for time in (one.expected_at, one.gone_at) if time is not None
        ]
        later = min((time for time in times if time > progress.now), default=progress.cap_at)
        return Closing.WAIT, f"waiting for {len(progress.awaited)}", min(later, progress.cap_at)
    if progress.counted < progress.enough:
        return Closing.MORE, f"{progress.counted} of {progress.enough} updates came", None
    if progress.awaited:
        return Closing.CLOSE, "the straggler deadline has passed", None
    return Closing.CLOSE, "all have answered", None
