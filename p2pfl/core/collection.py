"""The contributions that an aggregator collects in one ballot, and the decision when the round closes.

`Collection` holds the contributions; `decide_closing` decides (rules "Closing a round" and "Sampling"). A
member's update is first announced (its blob is being pulled and checked), then counted or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from p2pfl.messages import Evaluation, Member, Submit, UpdateEntry


class Stage(Enum):
    """The state of one member's contribution."""

    ANNOUNCED = "its update is being pulled"
    COUNTED = "its update is here, checked and counted"
    REFUSED = "its update was refused"
    DECLINED = "it declined"
    NOTHING = "it submitted only its evaluation"

    @property
    def is_final(self) -> bool:
        """Whether the aggregator expects nothing more of the member in this ballot."""
        return self is not Stage.ANNOUNCED


@dataclass
class Contribution:
    """What one member submitted."""

    stage: Stage
    update: UpdateEntry | None = None
    reason: str = ""
    """Why the update was refused, or why the member declined."""
    evaluation: Evaluation | None = None


PULL_TRIES = 3
"""Failed pulls of a linked member's update after which the round goes on without it. Each pull asks every
holder, and the member announces its update again a second after a failed one."""


@dataclass
class Collection:
    """All contributions of one ballot."""

    selected: set[str]
    """Node ids of the members selected to train: the sample, later perhaps more."""
    enough: int
    """Effective `min_updates`: at most the size of the sample, also when more members are selected later."""
    contributions: dict[str, Contribution] = field(default_factory=dict)
    failed_pulls: dict[str, int] = field(default_factory=dict)
    """By member: the number of failed pulls of its update."""
    failures: dict[str, str] = field(default_factory=dict)
    """By member: the reason of the last failed pull."""

    def at(self, *stages: Stage) -> list[str]:
        """Return the members whose contribution is at one of *stages*."""
        return [node for node, one in self.contributions.items() if one.stage in stages]

    def is_done(self, node: str) -> bool:
        """Whether the aggregator expects nothing more of *node*."""
        contribution = self.contributions.get(node)
        return contribution is not None and contribution.stage.is_final

    def with_update(
        self, is_meant: Callable[[UpdateEntry], bool], stage: Stage = Stage.ANNOUNCED
    ) -> list[str]:
        """Return the members at *stage* for whose update *is_meant* returns True."""
        return [
            node
            for node, one in self.contributions.items()
            if one.stage is stage and one.update is not None and is_meant(one.update)
        ]

    def counted(self, order: Callable[[Iterable[str]], list[str]]) -> tuple[UpdateEntry, ...]:
        """Return the counted updates, in the *order* of their node ids."""
        chosen = (self.contributions[node].update for node in order(self.at(Stage.COUNTED)))
        return tuple(update for update in chosen if update is not None)


def judge(member: Member, message: Submit, flaw: str, *, is_training: bool) -> Contribution:
    """Return the contribution that *message* of *member* makes; a wrong update is refused before its pull.

    *flaw* says why the update does not fit the run; empty if it fits.
    """
    update, evaluation = message.update, message.evaluation
    if update is None:
        stage = Stage.DECLINED if message.declined else Stage.NOTHING
        return Contribution(stage, reason=message.declined, evaluation=evaluation)
    if update.node != member.node or update.journal != member.journal:
        reason = "it was announced in another member's name"
    elif flaw:
        reason = flaw
    elif not is_training:
        reason = "the closing round takes no updates"
    else:
        return Contribution(Stage.ANNOUNCED, update, evaluation=evaluation)
    return Contribution(Stage.REFUSED, update, reason, evaluation)


def decide_pulling_again(failed: int, *, is_invalid: bool, is_known: bool) -> tuple[bool, str]:
    """Return whether to wait for an update after its *failed*-th failed pull, and why or why not.

    *is_invalid* says that the pulled bytes are unusable or not those announced. *is_known* says that pulls
    from this member failed in earlier rounds, too.
    """
    if is_invalid:
        return False, "its update is unusable"
    if failed >= (1 if is_known else PULL_TRIES):
        return False, "its update could not be pulled"
    return True, "the member announces it again, and then it is pulled again"


class Awaited(msgspec.Struct, frozen=True):
    """A member whose contribution is not complete."""

    node: str
    expected_at: float | None
    """When its straggler deadline passes, by its own prediction; None without a prediction."""
    gone_at: float | None
    """When it will count as gone; None while it is reachable, or while a pull from it goes on."""
    has_update: bool = False
    """Whether it reported that its update is ready: only the transfer is left."""


class CollectionProgress(msgspec.Struct, frozen=True):
    """The input of `decide_closing`."""

    now: float
    awaited: Sequence[Awaited]
    """The members that are neither done nor gone nor leaving. In a training round: those of the sample."""
    counted: int
    """The number of updates that are pulled and checked."""
    enough: int
    """See `Collection.enough`."""
    cap_at: float
    """When the round closes with the updates it has."""
    last_call: float = 0.0
    """When this ballot closes even if members have updates that are not pulled yet; not before `cap_at`."""
    has_quorum: bool = True
    """Whether enough members are reachable for the round to commit."""
    evaluating: Sequence[Awaited] = ()
    """The same members outside the sample, of which only the evaluation is waited for."""
    held: str = ""
    """Why the round may not close yet; empty if it may. See `p2pfl.core.pausing.decide_holding`."""
    least: int = 1
    """The least number of updates that the strategy can aggregate."""
    absent: Sequence[str] = ()
    """Names of the members that are gone and could still come back with an update."""


class Closing(Enum):
    """What to do about a round whose updates are being collected."""

    WAIT = "wait"
    MORE = "ask members outside the sample"
    CLOSE = "close"


def decide_closing(progress: CollectionProgress) -> tuple[Closing, str, float | None]:
    """Return what to do, why, and when to decide again if nothing happens.

    The round never closes without a slow member before that member's straggler deadline, except at the cap.
    The evaluation of a member outside the sample is waited for only that long, and asks for no more updates.
    `MORE` means that nobody is waited for any more and too few updates came: the caller selects more members,
    or closes if there are none. The cap limits training: a ballot that begins after it still takes the
    updates that members have.
    """
    if not progress.has_quorum:
        return Closing.WAIT, "no quorum is reachable, and a returning member may have an update", None
    if progress.held:
        return Closing.WAIT, progress.held, None
    if progress.now >= progress.cap_at:
        ready = sum(one.has_update for one in progress.awaited)
        if ready and progress.now < progress.last_call:
            return Closing.WAIT, f"trained updates that are not pulled yet: {ready}", progress.last_call
        return Closing.CLOSE, "the round's cap has passed", None
    late = [
        one for one in progress.awaited if one.expected_at is not None and one.expected_at <= progress.now
    ]
    if progress.awaited and (len(late) < len(progress.awaited) or progress.counted < progress.enough):
        return Closing.WAIT, f"waiting for {len(progress.awaited)}", _next_change(progress, progress.awaited)
    if progress.counted < progress.enough:
        return Closing.MORE, f"{progress.counted} of {progress.enough} updates came", None
    evaluating = [one for one in progress.evaluating if (one.expected_at or 0.0) > progress.now]
    if evaluating:
        return Closing.WAIT, f"evaluations outstanding: {len(evaluating)}", _next_change(progress, evaluating)
    if progress.awaited:
        return Closing.CLOSE, "the straggler deadline has passed", None
    return Closing.CLOSE, "all have answered", None


def decide_without_more(progress: CollectionProgress) -> tuple[Closing, str, float | None]:
    """Return what to do when too few updates came and no other member can be asked, as `decide_closing`.

    If the strategy cannot aggregate so few updates, the round waits for absent members up to the cap.
    """
    counted, least = progress.counted, progress.least
    if 0 < counted < least and progress.absent and progress.now < progress.cap_at:
        who = ", ".join(progress.absent)
        text = f"{counted} of the {least} updates that the strategy needs came: the round waits for {who}"
        return Closing.WAIT, text, progress.cap_at
    return Closing.CLOSE, f"{counted} of {progress.enough} updates came", None


def _next_change(progress: CollectionProgress, waiting: Sequence[Awaited]) -> float:
    """Return when a deadline of *waiting* members passes, or one of them counts as gone."""
    times = [time for one in waiting for time in (one.expected_at, one.gone_at) if time is not None]
    later = min((time for time in times if time > progress.now), default=progress.cap_at)
    return min(later, progress.cap_at)
