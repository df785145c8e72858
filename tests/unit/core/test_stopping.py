from __future__ import annotations

import msgspec
import pytest

from p2pfl.cards import REGRESSION, Agreement
from p2pfl.core.stopping import (
    Judged,
    MetricHistory,
    decide_stopping,
    follow,
    history_of,
    judged,
    unknown_target,
)
from p2pfl.messages import Evaluation, MemberEvaluation, Record
from p2pfl.spec import MetricTarget, Stopping, with_options
from tests.support.core import chain_of
from tests.support.records import AGREEMENT, NAMES, SPEC, Chain, evaluations, node

CLASSIFICATION = AGREEMENT.measures
ACCURACY_95 = Stopping(until=MetricTarget("accuracy", 0.95))
PATIENT = Stopping(patience=2)


def of_accuracy(round_: int, accuracy: float) -> Judged:
    return round_, Evaluation(100, {"accuracy": 100 * accuracy, "loss": 30.0})


def decide(
    stopping: Stopping, found: Judged | None, history: MetricHistory | None = None
) -> tuple[bool, str]:
    return decide_stopping(stopping, CLASSIFICATION, history or MetricHistory(), found)


def grown(stopping: Stopping, *accuracies: float | None, ends: tuple[int, ...] = ()) -> Chain:
    """A run whose models have *accuracies*; the records number *ends* end it, and it is extended."""
    chain = chain_of(
        *NAMES[:3], rounds=1, spec=with_options(SPEC, until=stopping.until, patience=stopping.patience)
    )
    for accuracy in accuracies:
        counts = ((round(100 * accuracy), 100),) * 3 if accuracy is not None else ()
        is_end = len(chain.commits) + 1 in ends
        chain.commit(evaluated=evaluations(*counts), then="end" if is_end else "go")
    return chain


def history(chain: Chain) -> MetricHistory:
    return history_of(chain.genesis, (commit.record for commit in chain.commits))


# --- which models are judged ------------------------------------------------------------------------------------


def test_a_model_is_judged_by_the_evaluations_of_a_majority() -> None:
    parent = chain_of(*NAMES[:3], rounds=4).commits[-1].record
    found = judged(parent, evaluations((9, 10), (7, 10)))
    assert found is not None
    assert (found[0], found[1].metrics["accuracy"]) == (4, 0.8)
    assert judged(parent, evaluations((9, 10))) is None


def test_evaluations_of_one_member_and_of_strangers_are_no_majority() -> None:
    parent = chain_of(*NAMES[:3], rounds=1).commits[-1].record
    (own,) = evaluations((9, 10))
    stranger = msgspec.structs.replace(own, node=node("eve"))
    assert judged(parent, (own, own, stranger)) is None


def test_the_first_model_and_one_that_was_judged_before_are_not_judged() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    closing = chain.commit(kind="evaluate", then="end").record
    assert judged(None, evaluations((9, 10), (9, 10), (9, 10))) is None
    assert judged(closing, evaluations((9, 10), (9, 10), (9, 10))) is None


# --- the target -------------------------------------------------------------------------------------------------


def test_a_run_ends_when_its_model_reaches_the_target() -> None:
    assert decide(ACCURACY_95, of_accuracy(3, 0.9512)) == (True, "accuracy 0.9512 reached 0.95")
    assert decide(ACCURACY_95, of_accuracy(3, 0.95))[0]
    assert decide(ACCURACY_95, of_accuracy(3, 0.9499)) == (False, "the stopping rule is not met")
    assert decide(ACCURACY_95, None) == (False, "no model is judged")
    assert not decide(Stopping(), of_accuracy(3, 1.0))[0]


def test_a_target_of_a_loss_is_reached_from_above() -> None:
    rule = Stopping(until=MetricTarget("loss", 0.3))
    assert decide(rule, of_accuracy(3, 0.1)) == (True, "loss 0.3000 reached 0.3")
    assert not decide(Stopping(until=MetricTarget("loss", 0.29)), of_accuracy(3, 0.1))[0]


def test_the_agreement_says_in_which_direction_the_primary_metric_is_better() -> None:
    rule, found = Stopping(until=MetricTarget("dice", 0.2)), (1, Evaluation(10, {"dice": 1.0}))
    smaller = msgspec.structs.replace(CLASSIFICATION, metrics=("dice",), primary="dice", direction="min")
    assert decide_stopping(rule, smaller, MetricHistory(), found)[0]
    larger = msgspec.structs.replace(smaller, direction="max")
    assert not decide_stopping(rule, larger, MetricHistory(), found)[0]


def test_a_target_of_a_derived_metric_counts() -> None:
    sums = {"loss": 1.0, "mae": 3.0, "mse": 1.0, "target": 0.0, "target_square": 10.0}
    rule = Stopping(until=MetricTarget("r2", 0.85))
    found = decide_stopping(rule, REGRESSION, MetricHistory(), (1, Evaluation(10, sums)))
    assert found == (True, "r2 0.9000 reached 0.85")


def test_a_target_that_was_reached_before_does_not_end_an_extended_run() -> None:
    assert not decide(ACCURACY_95, of_accuracy(8, 0.97), MetricHistory(0.96, 7, is_reached=True))[0]


def test_a_target_that_nobody_measures_ends_nothing_and_is_named() -> None:
    rule = Stopping(until=MetricTarget("dice", 0.0))
    assert not decide(rule, of_accuracy(3, 1.0))[0]
    text = "the run is to end at dice 0, but its evaluations measure accuracy, f1, loss"
    assert unknown_target(rule, AGREEMENT) == text
    assert unknown_target(ACCURACY_95, AGREEMENT) == unknown_target(Stopping(), AGREEMENT) == ""
    assert unknown_target(Stopping(until=MetricTarget("r2", 0.9)), Agreement((), 10, REGRESSION)) == ""


# --- the patience -----------------------------------------------------------------------------------------------


def test_a_run_ends_after_as_many_rounds_without_a_better_model() -> None:
    known = MetricHistory(0.94, 7, without_better=1)
    text = "no better accuracy for 2 rounds (best 0.9400 in round 7)"
    assert decide(PATIENT, of_accuracy(9, 0.94), known) == (True, text)
    assert not decide(PATIENT, of_accuracy(9, 0.95), known)[0]
    assert not decide(PATIENT, of_accuracy(9, 0.94), MetricHistory(0.94, 7))[0]
    text = "no better accuracy for 1 round (best 0.9400 in round 7)"
    assert decide(Stopping(patience=1), of_accuracy(8, 0.5), MetricHistory(0.94, 7)) == (True, text)


def test_a_model_without_the_primary_metric_is_no_reason_to_end() -> None:
    other = msgspec.structs.replace(CLASSIFICATION, primary="dice")
    known = MetricHistory(None, 0)
    assert decide_stopping(Stopping(patience=1), other, known, of_accuracy(1, 0.9))[0] is False


# --- the history ------------------------------------------------------------------------------------------------


def test_a_value_that_is_not_finite_is_no_best_and_reaches_nothing() -> None:
    bad = of_accuracy(1, 1e298)  # the mean of a sum of 1e300
    assert decide(ACCURACY_95, bad) == (False, "the stopping rule is not met")
    first = MetricHistory()
    assert decide(Stopping(patience=1), bad, first)[0] is False, "there is no best model yet"
    known = MetricHistory(0.9, 1)
    assert decide(Stopping(patience=1), bad, known) == (
        True,
        "no better accuracy for 1 round (best 0.9000 in round 1)",
    )


def test_the_history_is_that_of_the_committed_evaluations() -> None:
    assert history(grown(PATIENT)) == MetricHistory()
    assert history(grown(PATIENT, 0.5, 0.7, 0.6)) == MetricHistory(0.7, 2, 1)
    assert history(grown(PATIENT, 0.5, None, 0.5)) == MetricHistory(0.5, 1, 1)


def test_a_smaller_value_is_better_where_the_agreement_says_so() -> None:
    chain = grown(PATIENT, 0.5, 0.7)
    measures = msgspec.structs.replace(CLASSIFICATION, direction="min")
    found, parent = MetricHistory(), None
    for commit in chain.commits:
        found = follow(found, PATIENT, measures, parent, commit.record)
        parent = commit.record
    assert found == MetricHistory(0.5, 1, 1)


def test_after_its_end_a_run_has_its_whole_patience_again_and_keeps_its_best() -> None:
    assert history(grown(PATIENT, 0.7, 0.6, 0.6, ends=(4,))) == MetricHistory(0.7, 1, 0)
    assert history(grown(PATIENT, 0.7, 0.6, 0.6, 0.5, ends=(4,))) == MetricHistory(0.7, 1, 1)


def test_a_reached_target_stays_reached() -> None:
    assert history(grown(ACCURACY_95, 0.96, 0.9)) == MetricHistory(0.96, 1, 1, is_reached=True)
    assert not history(grown(ACCURACY_95, 0.9)).is_reached


def test_a_continued_run_begins_its_history_anew() -> None:
    assert history_of(chain_of(*NAMES[:3]).genesis, ()) == MetricHistory()


@pytest.mark.parametrize("count", [1, 2])
def test_only_known_metrics_are_judged(count: int) -> None:
    chain = grown(PATIENT)
    one = MemberEvaluation(node("ada"), Evaluation(10, {"dice": 1.0}))
    two = MemberEvaluation(node("ben"), Evaluation(10, {"dice": 1.0}))
    record: Record = chain.commit(evaluated=(one, two)[:count]).record
    parent = chain.commits[0].record
    assert follow(MetricHistory(), PATIENT, CLASSIFICATION, parent, record) == MetricHistory()
