from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.core.collection import (
    PULL_TRIES,
    Awaited,
    Closing,
    Collection,
    CollectionProgress,
    Contribution,
    Stage,
    decide_closing,
    decide_pulling_again,
    decide_without_more,
    judge,
)
from p2pfl.messages import Submit
from tests.support.core import ballot, member
from tests.support.records import digest, evaluation, update

BASE = CollectionProgress(now=100.0, awaited=(), counted=3, enough=1, cap_at=160.0)


def decide(**changes: Any) -> Any:
    return decide_closing(msgspec.structs.replace(BASE, **changes))


def awaited(expected_at: float | None = None, gone_at: float | None = None) -> Awaited:
    return Awaited("dan", expected_at, gone_at)


def test_the_round_closes_when_everybody_has_answered() -> None:
    assert decide() == (Closing.CLOSE, "all have answered", None)


def test_a_member_that_has_predicted_nothing_is_waited_for_until_the_cap() -> None:
    assert decide(awaited=(awaited(),)) == (Closing.WAIT, "waiting for 1", 160.0)


def test_a_round_stays_open_while_no_quorum_could_commit_it() -> None:
    closing, reason, _ = decide(has_quorum=False, now=200.0)
    assert closing is Closing.WAIT
    assert "quorum" in reason


def test_a_round_that_is_held_stays_open_also_after_its_cap() -> None:
    assert decide(held="ben leaving", now=200.0) == (Closing.WAIT, "ben leaving", None)


def test_a_slow_device_that_works_is_waited_for_until_its_own_deadline() -> None:
    assert decide(awaited=(awaited(expected_at=140.0),)) == (Closing.WAIT, "waiting for 1", 140.0)


def test_the_straggler_deadline_closes_the_round_when_enough_came() -> None:
    late = (awaited(expected_at=99.0),)
    assert decide(awaited=late) == (Closing.CLOSE, "the straggler deadline has passed", None)


def test_the_straggler_deadline_does_not_close_a_round_with_too_few_updates() -> None:
    assert decide(awaited=(awaited(expected_at=99.0),), enough=4)[0] is Closing.WAIT


def test_one_late_member_does_not_close_the_round_on_another_that_is_in_time() -> None:
    both = (awaited(expected_at=99.0), awaited(expected_at=130.0))
    assert decide(awaited=both) == (Closing.WAIT, "waiting for 2", 130.0)


def test_an_unreachable_member_is_asked_about_again_when_it_counts_as_gone() -> None:
    assert decide(awaited=(awaited(gone_at=101.5),))[2] == 101.5


def test_too_few_updates_ask_for_more_members() -> None:
    assert decide(counted=0) == (Closing.MORE, "0 of 1 updates came", None)


def test_the_cap_closes_whatever_is_missing() -> None:
    verdict = decide(now=160.0, awaited=(awaited(),), counted=0, enough=5)
    assert verdict == (Closing.CLOSE, "the round's cap has passed", None)


def test_an_evaluation_outside_the_sample_is_waited_for_until_its_deadline_and_no_longer() -> None:
    slow = (awaited(expected_at=140.0, gone_at=120.0),)
    assert decide(evaluating=slow) == (Closing.WAIT, "evaluations outstanding: 1", 120.0)
    assert decide(evaluating=slow, now=140.0) == (Closing.CLOSE, "all have answered", None)
    assert decide(evaluating=slow, now=160.0)[0] is Closing.CLOSE


def test_an_evaluation_outside_the_sample_delays_neither_training_nor_the_call_for_more() -> None:
    slow = (awaited(expected_at=140.0),)
    assert decide(evaluating=slow, counted=0)[0] is Closing.MORE
    both = decide(evaluating=slow, awaited=(awaited(expected_at=150.0),))
    assert both == (Closing.WAIT, "waiting for 1", 150.0)


@pytest.mark.parametrize("stage", list(Stage))
def test_only_a_final_stage_is_done(stage: Stage) -> None:
    collection = Collection({"dan"}, 1, {"dan": Contribution(stage)})
    assert collection.is_done("dan") == (stage is not Stage.ANNOUNCED)
    assert not collection.is_done("eve")


def test_a_blob_is_waited_for_only_by_those_who_announced_it() -> None:
    theirs = Contribution(Stage.ANNOUNCED, update("dan", 1))
    counted = Contribution(Stage.COUNTED, update("eve", 1))
    collection = Collection(set(), 0, {"dan": theirs, "eve": counted})
    assert collection.with_update(lambda _: True) == ["dan"]
    assert collection.with_update(lambda one: one == update("eve", 1)) == []
    assert collection.with_update(lambda one: one == update("eve", 1), Stage.COUNTED) == ["eve"]


def test_counted_updates_come_in_the_order_asked_for_whatever_their_order_of_arrival() -> None:
    given = {name: Contribution(Stage.COUNTED, update(name, 1)) for name in ("eve", "dan", "ben")}
    refused = {"ada": Contribution(Stage.REFUSED, update("ada", 1), "why")}
    counted = Collection(set(), 0, {**given, **refused}).counted(sorted)
    assert counted == (update("ben", 1), update("dan", 1), update("eve", 1))


def submit(
    name: str = "ben", examples: int = 100, update_of: str = "ben", flaw: str = "", **changes: str | None
) -> Contribution:
    made = Submit(digest("run"), 1, ballot(1, "ada"), digest("run"), update(update_of, 1, examples), "", None)
    return judge(member(name), msgspec.structs.replace(made, **changes), flaw, is_training=True)


def test_a_plain_update_is_announced() -> None:
    assert submit().stage is Stage.ANNOUNCED


def test_an_update_with_a_flaw_is_refused_for_it() -> None:
    refused = submit(flaw="it claims too much")
    assert refused.stage is Stage.REFUSED
    assert refused.reason == "it claims too much"


def test_an_update_in_another_members_name_is_refused() -> None:
    assert submit(update_of="cleo").reason == "it was announced in another member's name"


def test_the_closing_round_takes_evaluations_and_no_updates() -> None:
    message = Submit(
        digest("run"), 1, ballot(1, "ada"), digest("run"), update("ben", 1), "", evaluation(8, 10, 2.0)
    )
    refused = judge(member("ben"), message, "", is_training=False)
    assert refused.stage is Stage.REFUSED
    assert refused.evaluation == evaluation(8, 10, 2.0)


def test_who_declines_says_why() -> None:
    declined = submit(update=None, declined="its training failed")
    assert (declined.stage, declined.reason) == (Stage.DECLINED, "its training failed")


def test_who_was_not_selected_gives_nothing_but_its_evaluation() -> None:
    assert submit(update=None).stage is Stage.NOTHING


def test_a_ballot_that_begins_after_the_cap_takes_the_updates_that_are_there() -> None:
    ready = (Awaited("dan", None, None, has_update=True),)
    late = {"now": 170.0, "awaited": ready, "counted": 0, "last_call": 200.0}
    assert decide(**late) == (Closing.WAIT, "trained updates that are not pulled yet: 1", 200.0)
    assert decide(**{**late, "now": 200.0})[0] is Closing.CLOSE
    assert decide(**{**late, "awaited": (awaited(),)})[0] is Closing.CLOSE, "nobody trains after the cap"


@pytest.mark.parametrize(
    ("failed", "is_invalid", "is_known", "again"),
    [
        (1, False, False, True),
        (PULL_TRIES, False, False, False),
        (1, False, True, False),
        (1, True, False, False),
    ],
)
def test_an_update_is_pulled_again_while_that_may_help(
    failed: int, is_invalid: bool, is_known: bool, again: bool
) -> None:
    assert decide_pulling_again(failed, is_invalid=is_invalid, is_known=is_known)[0] is again


def test_a_strategy_that_needs_more_updates_waits_for_absent_members_until_the_cap() -> None:
    progress = CollectionProgress(
        now=0.0, awaited=(), counted=2, enough=3, cap_at=60.0, least=3, absent=("pi", "nas")
    )
    verdict, reason, again = decide_without_more(progress)
    assert (verdict, again) == (Closing.WAIT, 60.0)
    assert reason == "2 of the 3 updates that the strategy needs came: the round waits for pi, nas"


@pytest.mark.parametrize("changes", [{"now": 60.0}, {"counted": 0}, {"least": 2}, {"absent": ()}])
def test_a_round_closes_where_nobody_who_is_away_could_help(changes: dict[str, Any]) -> None:
    progress = CollectionProgress(
        now=0.0, awaited=(), counted=2, enough=3, cap_at=60.0, least=3, absent=("pi",)
    )
    verdict, reason, again = decide_without_more(msgspec.structs.replace(progress, **changes))
    assert (verdict, again) == (Closing.CLOSE, None)
    assert reason.endswith("of 3 updates came")
