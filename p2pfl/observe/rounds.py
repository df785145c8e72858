"""Training rounds as an observer sees them: the decided ones and the open one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from p2pfl.events import ClassScore, Committed, CountedUpdate, EvaluationFinished, MemberScore, RoundRow
from p2pfl.messages import ClassCount

MAX_ROUNDS = 600
"""Rounds kept of a run, more than a screen is wide; of a longer run every second older round is dropped."""

MAX_MOVED = 100
"""Transfers whose bytes are kept for the open round."""

MAX_REFUSED = 100
"""Refused updates kept for the open round."""


@dataclass
class OpenRound:
    """The round that is not decided yet."""

    index: int
    """Number of its record in the chain."""
    round: int
    """Number of the training round; meaningless for the final evaluation."""
    kind: Literal["train", "evaluate"] = "train"
    opened_at: float | None = None
    """Time of the previous commit by the node's clock; None if no event reported it."""
    attempt: int = 0
    aggregator: str = ""
    elected_at: float | None = None
    votes: int = 0
    """Promises that the aggregator counted; 0 at a node that only heard of the election."""
    selected: set[str] = field(default_factory=set)
    """Names of the members selected to train; empty if all members are, or if that is not known."""
    trained: set[str] = field(default_factory=set)
    """Names of members that have finished training."""
    counted: dict[str, float] = field(default_factory=dict)
    """Members whose update is counted, with the time; complete only at the aggregator."""
    refused: dict[str, str] = field(default_factory=dict)
    """Members whose update was refused, with the reason."""
    proposed_at: float | None = None
    step_downs: int = 0
    """Elected aggregators that stepped down."""
    moved: dict[tuple[str, str], int] = field(default_factory=dict)
    """Bytes of a model that moved between the observed node and another, by direction and name."""

    def note_moved(self, what: str, peer: str, count: int) -> None:
        """Note that *count* bytes of a model moved to or from *peer*."""
        key = (what, peer)
        if key in self.moved or len(self.moved) < MAX_MOVED:
            self.moved[key] = max(count, self.moved.get(key, 0))


class ScoreRange(NamedTuple):
    """The range of the members' evaluations of a round."""

    ranges: dict[str, tuple[float, float]]
    """Lowest and highest mean, by metric."""
    by_name: dict[str, MemberScore]


@dataclass
class Round:
    """A decided training round."""

    run: str
    round: int
    """Number of the training round, as people count them."""
    attempt: int
    aggregator: str
    digest: str
    members: tuple[str, ...]
    """Voters of this round; if only the commit event was seen, the voters of the next one."""
    updates: tuple[CountedUpdate, ...]
    left_out: tuple[tuple[str, str], ...]
    seconds: float
    note: str
    then: str
    metrics: dict[str, float] = field(default_factory=dict)
    """The mean of each metric; empty while nobody has evaluated its model."""
    examples: int = 0
    """Held-out examples they are the means of."""
    scores: tuple[MemberScore, ...] = ()
    classes: tuple[ClassCount | ClassScore, ...] = ()
    """Counts by class, in the order of the run's classes; empty if nobody counted them."""
    is_provisional: bool = False
    """Whether the evaluations are reported but not committed, so that they may still change."""
    index: int = 0
    """Number of its record in the chain."""
    committed_at: float | None = None
    """Time of the commit by the node's clock; None for a round from the history."""
    seen: OpenRound | None = None
    """The state it had while it was open, if it was observed then."""

    _score_range: tuple[tuple[MemberScore, ...], ScoreRange] | None = None
    """A cache: the scores and their range. Charts ask for the range of every round after each commit."""

    @property
    def is_settled(self) -> bool:
        """Whether its evaluations are committed: they never change."""
        return bool(self.metrics) and not self.is_provisional

    @property
    def is_partial(self) -> bool:
        """Whether only some members have reported yet: what they measured is no value of the federation."""
        return self.is_provisional and len(self.scores) < len(self.members)

    @property
    def loss(self) -> float | None:
        """The mean loss; None if no member measured it."""
        return self.metrics.get("loss")

    @property
    def score_range(self) -> ScoreRange | None:
        """The range of the members' scores; None without scores."""
        if self._score_range is None or self._score_range[0] is not self.scores:
            scores = [one for one in self.scores if one.examples > 0]
            if not scores:
                return None
            ranges = {}
            for name in scores[0].metrics:
                means = [mean for one in scores if (mean := one.mean(name)) is not None]
                ranges[name] = (min(means), max(means))
            score_range = ScoreRange(ranges, {one.name: one for one in scores})
            self._score_range = (self.scores, score_range)
        return self._score_range[1]

    def score_of(self, name: str) -> MemberScore | None:
        """Return the score of member *name*, or None."""
        score_range = self.score_range
        return score_range.by_name.get(name) if score_range is not None else None


def _copy_scores(known: Round, made: Round) -> None:
    """Copy the evaluations of *known* to *made*, which is the same round."""
    made.metrics, made.examples = known.metrics, known.examples
    made.scores, made.is_provisional = known.scores, known.is_provisional
    made.classes = known.classes


class Rounds:
    """The decided training rounds of one run, in order; bounded."""

    def __init__(self) -> None:
        self._rounds: dict[int, Round] = {}

    def __len__(self) -> int:
        return len(self._rounds)

    def __iter__(self) -> Iterator[Round]:
        return iter(self._rounds.values())

    def __reversed__(self) -> Iterator[Round]:
        return reversed(self._rounds.values())

    @property
    def last(self) -> Round | None:
        """The latest round."""
        return next(reversed(self), None)

    def get(self, number: int) -> Round | None:
        """Return round *number*, or None if it is unknown or was dropped."""
        return self._rounds.get(number)

    def numbers(self) -> list[int]:
        """Return the numbers of the rounds, in order."""
        return list(self._rounds)

    def take_row(self, row: RoundRow) -> None:
        """Add a round from the node's history."""
        if row.kind != "train":
            return
        known = self._rounds.get(row.training_round)
        made = Round(
            row.run, row.training_round, row.attempt, row.aggregator, row.digest, row.members, row.updates,
            row.left_out, row.seconds, row.note, row.then, row.metrics, row.examples, row.scores, row.classes,
            bool(row.metrics) and not row.committed, row.round,
        )  # fmt: skip
        if known is not None:
            made.committed_at, made.seen = known.committed_at, known.seen
            if not row.metrics or (made.is_provisional and not known.is_provisional):
                _copy_scores(known, made)
        self._put(made)

    def take(self, event: Committed, time: float, seen: OpenRound | None) -> None:
        """Add a round decided at *time*; *seen* is its state while it was open."""
        if event.kind != "train":
            return
        known = self._rounds.get(event.trained)
        made = Round(
            event.run, event.trained, event.attempt, event.aggregator, event.digest, event.members,
            event.updates, event.left_out, event.seconds, event.note, event.then, index=event.round,
            committed_at=None if event.is_late else time, seen=seen,
        )  # fmt: skip
        if known is not None:
            _copy_scores(known, made)
            made.members = known.members
            made.seen = seen or known.seen
        self._put(made)

    def score(self, event: EvaluationFinished, number: int) -> bool:
        """Add evaluations of round *number*'s model; return whether they replace the known ones.

        Committed evaluations never change. Of reported ones those with the most examples are kept.
        """
        known = self._rounds.get(number)
        if known is None:
            return False
        if not event.committed and (known.is_settled or event.examples < known.examples):
            return False
        known.metrics, known.examples = event.metrics, event.examples
        known.scores, known.is_provisional = event.scores, not event.committed
        known.classes = event.classes
        return True

    def _put(self, made: Round) -> None:
        is_newest = not self._rounds or made.round > next(reversed(self._rounds))
        self._rounds[made.round] = made
        if not is_newest:
            self._rounds = dict(sorted(self._rounds.items()))
        if len(self._rounds) > MAX_ROUNDS:
            numbers = list(self._rounds)
            for number in numbers[1 : MAX_ROUNDS // 2 : 2]:
                del self._rounds[number]
