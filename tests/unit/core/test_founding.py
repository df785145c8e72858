from typing import Any

import msgspec
import pytest

from p2pfl.core.founding import FoundingSituation, decide_founding, prefers
from p2pfl.core.given_options import Holding

BASE = FoundingSituation(
    me="a",
    here=frozenset("abc"),
    loading=0,
    needed=3,
    holder="",
    elsewhere=(),
    unfit="",
    steady_since=98.0,
    steady=2.0,
    now=100.0,
)


def decide(**changes: Any) -> Any:
    return decide_founding(msgspec.structs.replace(BASE, **changes))


def test_the_lowest_id_founds_when_everybody_is_here_and_the_set_is_steady() -> None:
    assert decide() == (True, "this node has the lowest id", None)


def test_others_wait_for_the_lowest_id() -> None:
    assert decide(me="b") == (False, "the node with the lowest id founds the run", None)


def test_only_a_node_whose_options_may_hold_founds() -> None:
    holding = Holding(frozenset("bc"), "--rounds 5", "ben")
    assert decide(me="b", holding=holding) == (True, "this node has the lowest id", None)
    assert decide(holding=holding) == (False, "the node with the lowest id founds the run", None)


def test_a_node_whose_options_hold_is_waited_for_although_the_others_are_enough() -> None:
    holding = Holding(frozenset("d"), "--rounds 5", "dan")
    reason = "dan, whose options hold, is not ready"
    assert decide(holding=holding, loading=1, now=999.0) == (False, reason, None)


def test_a_node_whose_options_hold_and_that_failed_to_found_tries_again_and_no_other_does() -> None:
    holding, unable = Holding(frozenset("b"), "--rounds 5", "ben"), {"a": "no disk", "b": "no memory"}
    verdict, reason, again = decide(holding=holding, unable=unable, next_try=130.0)
    assert (verdict, again) == (False, 130.0)
    assert reason == "no device could found a run; the next try is soon: no memory"


def test_options_that_differ_are_told_before_all_are_here_and_hold_the_start() -> None:
    holding = Holding(frozenset(), difference="--rounds is 5 on ada and 6 on ben")
    assert decide(holding=holding) == (False, "--rounds is 5 on ada and 6 on ben", None)
    verdict, reason, _ = decide(holding=holding, needed=5)
    assert (verdict, reason) == (False, "3 of 5 nodes are here; --rounds is 5 on ada and 6 on ben")


def test_nobody_waits_for_a_steady_moment_where_all_are_there() -> None:
    assert decide(is_complete=True, now=98.0) == (True, "this node has the lowest id", None)
    assert decide(is_complete=True, now=98.0, me="b")[0] is False
    assert decide(is_complete=True, now=98.0, loading=1) == (False, "workers are loading", 118.0)
    assert decide(is_complete=True, now=98.0, needed=4)[0] is False


def test_who_does_not_reach_enough_nodes_itself_does_not_found() -> None:
    assert decide(me="b", cut_off=frozenset("a")) == (True, "this node has the lowest id", None)
    assert not decide(me="c", cut_off=frozenset("a"))[0]
    assert decide(me="b", cut_off=frozenset("abc"))[0], "this node reaches them: it has counted"


def test_the_set_must_be_steady() -> None:
    assert decide(now=99.0) == (False, "everybody is here, the run starts in a moment", 100.0)


def test_the_largest_number_wanted_counts() -> None:
    assert decide(needed=5) == (False, "3 of 5 nodes are here", None)


def test_somebody_who_waits_holds_the_start_and_is_named() -> None:
    assert decide(holder="ben") == (
        False,
        "the training begins when somebody presses Enter on ben, or runs `p2pfl start` there",
        None,
    )


def test_nothing_is_founded_beside_a_run_that_is_not_followed() -> None:
    verdict, reason, _ = decide(elsewhere=("dan",))
    assert not verdict
    assert reason == "dan still in another run: start it with --new-run as well"


def test_a_run_that_this_node_cannot_take_part_in_is_said_to_be_what_is_waited_for() -> None:
    assert decide(elsewhere=("dan",), unfit="its model differs") == (False, "its model differs", None)


def test_a_worker_that_is_loading_is_waited_for_but_not_for_ever() -> None:
    assert decide(loading=1) == (False, "workers are loading", 118.0)
    assert decide(loading=1, now=118.0)[0]


def test_too_few_that_are_ready_do_not_found_however_long_they_wait() -> None:
    verdict, _, again = decide(here=frozenset("ab"), loading=1, now=999.0)
    assert (verdict, again) == (False, None)


def test_a_node_whose_run_did_not_begin_lets_the_next_one_found() -> None:
    assert decide(unable={"a": "pi cannot be dialled"})[0] is False
    assert decide(me="b", unable={"a": "pi cannot be dialled"}) == (True, "this node has the lowest id", None)


def test_when_nobody_could_found_a_run_the_reason_is_told_and_it_is_tried_again() -> None:
    unable = dict.fromkeys("abc", "an element is not finite")
    verdict, reason, again = decide(unable=unable, next_try=160.0)
    assert (verdict, again) == (False, 160.0)
    assert reason.endswith("an element is not finite")


@pytest.mark.parametrize(
    ("mine", "theirs", "their_round", "moves"),
    [("a", "b", 0, False), ("b", "a", 0, True), ("a", "b", 1, True), ("b", "a", 3, True)],
)
def test_of_two_runs_the_one_with_more_rounds_wins_and_then_the_smaller_id(
    mine: str, theirs: str, their_round: int, moves: bool
) -> None:
    assert prefers(mine, theirs, their_round) == moves
