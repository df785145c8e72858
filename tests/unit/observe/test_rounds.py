from __future__ import annotations

from msgspec.structs import replace

from p2pfl.events import ClassScore, Committed, EvaluationFinished, RoundRow
from p2pfl.messages import ClassCount
from p2pfl.observe.rounds import MAX_ROUNDS, OpenRound, Rounds
from tests.support.recordings import finished, rows_of

RECORDING = finished()
ROWS = rows_of(RECORDING)
COMMITS = [item for item in RECORDING if isinstance(item.event, Committed)]


def commit(number: int) -> Committed:
    event = COMMITS[number - 1].event
    assert isinstance(event, Committed)
    return event


def row(number: int) -> RoundRow:
    return ROWS[number - 1]


def evaluated(
    number: int, examples: int, accuracy: float = 0.5, *, committed: bool = False
) -> EvaluationFinished:
    return EvaluationFinished(
        number, {"accuracy": accuracy, "loss": 1.0}, examples, 1, 2, committed=committed
    )


def test_rounds_are_in_order_however_they_come() -> None:
    rounds = Rounds()
    for number in (3, 1, 2):
        rounds.take_row(row(number))
    assert rounds.numbers() == [1, 2, 3]
    assert rounds.last is not None
    assert rounds.last.round == 3


def test_what_trains_nothing_is_no_round_of_training() -> None:
    rounds = Rounds()
    rounds.take_row(ROWS[-1])
    rounds.take(commit(21), 1.0, None)
    assert len(rounds) == 0
    assert rounds.last is None


def test_a_commit_keeps_what_was_seen_of_its_round() -> None:
    rounds, seen = Rounds(), OpenRound(1, 1, attempt=2)
    rounds.take(commit(1), 7.0, seen)
    rounds.take_row(row(1))
    kept = rounds.get(1)
    assert kept is not None
    assert (kept.committed_at, kept.seen) == (7.0, seen)
    assert kept.metrics["accuracy"] == row(1).accuracy


def test_the_counts_of_classes_come_with_an_evaluation_or_from_the_history_and_are_kept() -> None:
    rounds, counted = Rounds(), (ClassScore("cat", 1, 2, 3),)
    rounds.take_row(replace(row(1), classes=counted))
    rounds.take(commit(2), 1.0, None)
    rounds.score(replace(evaluated(2, 10), classes=(ClassCount(1, 2, 3),)), 2)
    for number in (1, 2):
        rounds.take(commit(number), 2.0, None)
    assert [one.classes for one in rounds] == [counted, (ClassCount(1, 2, 3),)]


def test_a_commit_told_again_keeps_the_evaluation_and_who_voted() -> None:
    rounds = Rounds()
    voted = replace(row(1), members=("a", "b"))
    rounds.take_row(voted)
    rounds.take(commit(1), 7.0, None)
    kept = rounds.get(1)
    assert kept is not None
    assert (kept.metrics["accuracy"], kept.members) == (voted.metrics["accuracy"], ("a", "b"))


def test_a_history_without_an_evaluation_does_not_take_a_reported_one_away() -> None:
    rounds = Rounds()
    rounds.take(commit(1), 7.0, None)
    rounds.score(evaluated(1, 100, 0.8), 1)
    rounds.take_row(replace(row(1), metrics={}, examples=0, scores=()))
    kept = rounds.get(1)
    assert kept is not None
    assert (kept.metrics["accuracy"], kept.examples) == (0.8, 100)


def test_more_evaluations_replace_fewer_and_committed_ones_all() -> None:
    rounds = Rounds()
    rounds.take(commit(1), 7.0, None)
    kept = rounds.get(1)
    assert kept is not None
    rounds.score(evaluated(1, 200, 0.7), 1)
    rounds.score(evaluated(1, 100, 0.9), 1)
    assert (kept.metrics["accuracy"], kept.is_provisional) == (0.7, True)
    rounds.score(evaluated(1, 150, 0.6, committed=True), 1)
    assert (kept.metrics["accuracy"], kept.examples, kept.is_provisional) == (0.6, 150, False)


def test_a_committed_accuracy_never_changes() -> None:
    rounds = Rounds()
    rounds.take_row(row(1))
    assert not rounds.score(evaluated(1, 10**6, 0.1), 1)
    rounds.take_row(replace(row(1), metrics={"accuracy": 0.2, "loss": 1.0}, committed=False))
    rounds.take(commit(1), 7.0, None)
    kept = rounds.get(1)
    assert kept is not None
    assert (kept.metrics["accuracy"], kept.is_provisional) == (row(1).accuracy, False)


def test_a_row_whose_accuracy_was_only_reported_is_provisional() -> None:
    rounds = Rounds()
    rounds.take_row(replace(row(1), committed=False))
    assert rounds.last is not None
    assert rounds.last.is_provisional
    rounds.take_row(row(1))
    assert not rounds.last.is_provisional


def test_rounds_have_the_numbers_of_the_training_not_those_of_the_records() -> None:
    rounds = Rounds()
    rounds.take_row(row(20))
    rounds.take_row(replace(row(20), round=22, trained=21))
    rounds.take(replace(commit(20), round=23, trained=22), 8.0, None)
    assert rounds.numbers() == [20, 21, 22]
    assert rounds.last is not None
    assert rounds.last.index == 23


def test_a_round_this_node_missed_has_no_time() -> None:
    rounds = Rounds()
    rounds.take(replace(commit(1), is_late=True, seconds=0.0), 8.0, None)
    assert rounds.last is not None
    assert rounds.last.committed_at is None


def test_an_evaluation_of_an_unknown_round_is_not_taken() -> None:
    assert not Rounds().score(evaluated(9, 10), 9)


def test_of_long_runs_the_older_half_is_thinned_out() -> None:
    rounds = Rounds()
    for number in range(1, 3 * MAX_ROUNDS):
        rounds.take_row(replace(row(1), round=number, trained=number))
        assert len(rounds) <= MAX_ROUNDS
    numbers = rounds.numbers()
    assert numbers[0] == 1
    assert numbers[-100:] == list(range(3 * MAX_ROUNDS - 100, 3 * MAX_ROUNDS))


def test_updates_that_are_missing_are_counted() -> None:
    rounds = Rounds()
    rounds.take_row(replace(row(1), left_out=(("ada", "silent"), ("ben", "left"))))
    kept = rounds.get(1)
    assert kept is not None
    assert len(kept.left_out) == 2


def test_a_round_that_only_some_have_evaluated_is_partial_until_all_have_or_it_is_committed() -> None:
    some = row(1).scores[:1]
    found = []
    for told in (
        replace(row(1), scores=some, committed=False),
        replace(row(1), committed=False),
        replace(row(1), scores=some),
    ):
        rounds = Rounds()
        rounds.take_row(told)
        found += [one.is_partial for one in rounds]
    assert found == [True, False, False]
