"""Rounds as an observer sees them: those that are decided, and the open one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from p2pfl.events import Committed, CountedUpdate, EvaluationFinished, MemberScore, RoundRow

MAX_ROUNDS = 600
"""Kept of a run: more than a screen is wide. Of longer runs every second of the older half goes."""

MAX_REFUSED = 100
"""Refused updates kept of the open round."""


@dataclass
class Open:
    """The round under way."""

    index: int
    """The place its record will have in the chain."""
    round: int
    """The number of the training round; for the final evaluation it means nothing."""
    kind: Literal["train", "evaluate"] = "train"
    opened_at: float | None = None
    """When the one before was decided here, by this device's clock; None where that was not seen."""
    attempt: int = 0
    aggregator: str = ""
    elected_at: float | None = None
    trained: set[str] = field(default_factory=set)
    """Who said that it has trained."""
    counted: dict[str, float] = field(default_factory=dict)
    """Whose update is in the sum, and when that was told; only the aggregator hears of all."""
    refused: dict[str, str] = field(default_factory=dict)
    """Whose update is not counted, and why."""
    proposed_at: float | None = None
    step_downs: int = 0
    """Candidacies that were given up."""


class Spread(NamedTuple):
    """What a round's scores have between them."""

    ranges: dict[str, tuple[float, float]]
    """By metric the lowest and the highest."""
    by_name: dict[str, MemberScore]


@dataclass
class Round:
    """A round of training that is decided."""

    run: str
    round: int
    """Its number among the rounds of training: what people see."""
    attempt: int
    aggregator: str
    digest: str
    members: tuple[str, ...]
    """Who could vote in it; where only the commit was seen, who can in the next."""
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
    is_provisional: bool = False
    """Whether the accuracy is only reported so far, and may still change."""
    index: int = 0
    """The place of its record in the chain."""
    committed_at: float | None = None
    """By this device's clock; None for what was decided before anybody watched."""
    seen: Open | None = None
    """What was seen of it while it was open."""

    _spread: tuple[tuple[MemberScore, ...], Spread] | None = None
    """The spread, and of which scores it is: charts ask for it of every round, with each new one again."""

    @property
    def accuracy(self) -> float | None:
        """The mean of "accuracy"; None where nobody measured it."""
        return self.metrics.get("accuracy")

    @property
    def loss(self) -> float | None:
        """The mean of "loss"; None where nobody measured it."""
        return self.metrics.get("loss")

    @property
    def spread(self) -> Spread | None:
        """The range of the members' scores; None where there are none."""
        if self._spread is None or self._spread[0] is not self.scores:
            scores = [one for one in self.scores if one.examples > 0]
            if not scores:
                return None
            ranges = {}
            for name in scores[0].sums:
                means = [mean for one in scores if (mean := one.mean(name)) is not None]
                ranges[name] = (min(means), max(means))
            spread = Spread(ranges, {one.name: one for one in scores})
            self._spread = (self.scores, spread)
        return self._spread[1]

    def score_of(self, name: str) -> MemberScore | None:
        """Return the score of the member *name*, None where it gave none."""
        spread = self.spread
        return spread.by_name.get(name) if spread is not None else None

    @property
    def missing(self) -> int:
        """How many members' updates are not in it."""
        return len(self.left_out)


def _copy_scores(known: Round, made: Round) -> None:
    """Give *made*, a newer view of the round *known*, the evaluations of that."""
    made.metrics, made.examples = known.metrics, known.examples
    made.scores, made.is_provisional = known.scores, known.is_provisional


class Rounds:
    """The decided training rounds of one run, in order, each once; bounded."""

    def __init__(self) -> None:
        self._rounds: dict[int, Round] = {}

    def __len__(self) -> int:
        return len(self._rounds)

    def __iter__(self) -> Iterator[Round]:
        return iter(self._rounds.values())

    @property
    def last(self) -> Round | None:
        """The latest one."""
        return next(reversed(self._rounds.values())) if self._rounds else None

    def get(self, number: int) -> Round | None:
        """Return round *number*, None where it is not known, or not any more."""
        return self._rounds.get(number)

    def numbers(self) -> list[int]:
        """Return the numbers of the rounds, in order."""
        return list(self._rounds)

    def take_row(self, row: RoundRow) -> None:
        """Take a round from the node's history."""
        if row.kind != "train":
            return
        known = self._rounds.get(row.training_round)
        made = Round(
            row.run, row.training_round, row.attempt, row.aggregator, row.digest, row.members, row.updates,
            row.left_out, row.seconds, row.note, row.then, row.metrics, row.examples, row.scores,
            bool(row.metrics) and not row.committed, row.round,
        )  # fmt: skip
        if known is not None:
            made.committed_at, made.seen = known.committed_at, known.seen
            if not row.metrics or (made.is_provisional and not known.is_provisional):
                _copy_scores(known, made)
        self._put(made)

    def take(self, event: Committed, time: float, seen: Open | None) -> None:
        """Take a round that was decided at *time*, with what was *seen* of it before."""
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
        """Take evaluations of the model of round *number*; return whether they are the best there is.

        What is committed never changes. Of reports those of the most examples are kept.
        """
        known = self._rounds.get(number)
        if known is None:
            return False
        has_committed = bool(known.metrics) and not known.is_provisional
        if not event.committed and (has_committed or event.examples < known.examples):
            return False
        known.metrics, known.examples = event.metrics, event.examples
        known.scores, known.is_provisional = event.scores, not event.committed
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
