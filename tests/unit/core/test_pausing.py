import msgspec
import pytest

from p2pfl.core.pausing import (
    UNPRODUCTIVE_ROUNDS,
    TrainingSummary,
    count_unproductive,
    decide_holding,
    decide_pausing,
    name_reasons,
)
from p2pfl.messages import LeftOut
from tests.support.records import NAMES, Chain, node, roster

NOTHING = TrainingSummary(counted=0, failed={"ada": "no data", "ben": "no data"}, late=0, unproductive=0)


def decide(**changes: dict[str, str] | int | str) -> tuple[bool, str]:
    return decide_pausing(msgspec.structs.replace(NOTHING, **changes))


def test_a_run_in_which_everybody_failed_pauses_at_once() -> None:
    assert decide() == (True, "nobody who is here could train, so the run pauses")


def test_each_reason_is_named_once() -> None:
    assert name_reasons({"ada": "no data", "ben": "no data"}) == "ada, ben: no data"
    assert name_reasons({"ada": "no data", "ben": "killed"}) == "ada: no data; ben: killed"


@pytest.mark.parametrize("changes", [{"late": 1}, {"counted": 1}, {"failed": {}}])
def test_a_run_in_which_somebody_may_train_goes_on(changes: dict[str, int]) -> None:
    assert not decide(**changes)[0]


def test_a_run_pauses_when_more_fail_than_train_for_some_rounds() -> None:
    before = UNPRODUCTIVE_ROUNDS - 1
    assert not decide(counted=1, unproductive=before - 1)[0]
    paused, reason = decide(counted=1, unproductive=before)
    assert paused
    assert reason.startswith(f"for {UNPRODUCTIVE_ROUNDS} rounds more members failed than trained")
    assert not decide(counted=2, unproductive=before)[0]


def test_only_rounds_of_training_count_and_one_good_one_begins_anew() -> None:
    chain = Chain()
    good = chain.commit().record
    left = tuple(LeftOut(node(name), "no data") for name in NAMES[:3])
    bad = msgspec.structs.replace(good, updates=(), left_out=left)
    assert count_unproductive(1, bad) == 2
    assert count_unproductive(2, good) == 0
    assert count_unproductive(2, msgspec.structs.replace(bad, kind="evaluate")) == 2


def hold(before: tuple[str, ...], after: tuple[str, ...], *, is_wanted: bool = False) -> tuple[bool, str]:
    return decide_holding([node("ben")], roster(*before), roster(*after), is_wanted=is_wanted)


def test_a_round_waits_while_a_leaver_is_needed_for_the_quorum() -> None:
    three = NAMES[:3]
    reason = "ben leaving, and too few others are here: the round waits for another member"
    assert hold(three, three) == (True, reason)
    assert not hold(three, three, is_wanted=True)[0]
    assert not hold(three, three[:1])[0]


def test_a_round_that_admits_a_member_does_not_wait() -> None:
    assert hold(NAMES[:3], NAMES[:4]) == (False, "a member joins with this round")


def test_a_run_pauses_when_too_few_updates_came_for_some_rounds() -> None:
    short = "median needs 3 updates, and 2 came"
    before = UNPRODUCTIVE_ROUNDS - 1
    assert not decide(shortage=short, unproductive=before - 1)[0], "a killed worker is no reason"
    assert decide(shortage=short, unproductive=before, failed={"ada": "no data"}) == (
        True,
        "the model stayed for 3 rounds, so the run pauses",
    )
    assert decide(shortage=short, unproductive=before, failed={})[0]
