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
class OpenRound:
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


class ScoreRange(NamedTuple):
    """What a round's scores have between them."""

    accuracy: tuple[float, float]
    """The lowest and the highest."""
    loss: tuple[float, float]
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
    accuracy: float | None = None
    loss: float | None = None
    samples: int = 0
    scores: tuple[MemberScore, ...] = ()
    is_provisional: bool = False
    """Whether the accuracy is only reported so far, and may still change."""
    index: int = 0
    """The place of its record in the chain."""
    committed_at: float | None = None
    """By this device's clock; None for what was decided before anybody watched."""
    seen: OpenRound | None = None
    """What was seen of it while it was open."""

    _score_range: tuple[tuple[MemberScore, ...], ScoreRange] | None = None
    """The spread, and of which scores it is: charts ask for it of every round, with each new one again."""

    @property
    def score_range(self) -> ScoreRange | None:
        """The range of the members' scores; None where there are none."""
        if self._score_range is None or self._score_range[0] is not self.scores:
            scores = [one for one in self.scores if one.total > 0]
            if not scores:
                return None
            accuracies = [one.correct / one.total for one in scores]
            losses = [one.loss / one.total for one in scores]
            score_range = ScoreRange(
                (min(accuracies), max(accuracies)),
                (min(losses), max(losses)),
                {one.name: one for one in scores},
            )
            self._score_range = (self.scores, score_range)
        return self._score_range[1]

    def score_of(self, name: str) -> MemberScore | None:
        """Return the score of the member *name*, None where it gave none."""
        score_range = self.score_range
        return score_range.by_name.get(name) if score_range is not None else None


def _copy_scores(known: Round, made: Round) -> None:
    """Give *made*, a newer view of the round *known*, the evaluations of that."""
    made.accuracy, made.loss, made.samples = known.accuracy, known.loss, known.samples
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
            row.left_out, row.seconds, row.note, row.then, row.accuracy, row.loss, row.samples, row.scores,
            row.accuracy is not None and not row.committed, row.round,
        )  # fmt: skip
        if known is not None:
            made.committed_at, made.seen = known.committed_at, known.seen
            if row.accuracy is None or (made.is_provisional and not known.is_provisional):
                _copy_scores(known, made)
        self._put(made)

    def take(self, event: Committed, time: float, seen: OpenRound | None) -> None:
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

        What is committed never changes. Of reports those of the most samples are kept.
        """
        known = self._rounds.get(number)
        if known is None:
            return False
        has_committed = known.accuracy is not None and not known.is_provisional
        if not event.committed and (has_committed or event.samples < known.samples):
            return False
        known.accuracy, known.loss, known.samples = event.accuracy, event.loss, event.samples
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
