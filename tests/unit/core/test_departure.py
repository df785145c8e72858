from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.core.departure import (
    DroppedSituation,
    LeaveSituation,
    RemainingNode,
    decide_departure,
    decide_exit,
    decide_leaving,
)
from p2pfl.exit_codes import ExitCode

DONE = RemainingNode("ben", confirmed=True, given_up_at=None)
SLOW = RemainingNode("cleo", confirmed=False, given_up_at=None)
AWAY = RemainingNode("dan", confirmed=False, given_up_at=130.0)


def ending(others: list[RemainingNode], *, holds: bool, now: float, serve_until: float = 0.0) -> Any:
    return decide_exit(others, holds=holds, serve_until=serve_until, now=now)


def test_a_node_exits_once_everybody_has_the_final_model() -> None:
    assert ending([DONE, DONE], holds=True, now=100.0) == (
        ExitCode.COMPLETE,
        "the run is complete everywhere",
        None,
    )


def test_a_node_serves_a_linked_member_that_has_not_confirmed() -> None:
    assert ending([DONE, SLOW], holds=True, now=9e9) == (None, "serving 1", None)


def test_an_unreachable_member_is_waited_for_until_linger_is_over_and_then_named() -> None:
    assert ending([DONE, AWAY], holds=True, now=129.9) == (None, "serving 1", 130.0)
    assert ending([DONE, AWAY], holds=True, now=130.0) == (
        ExitCode.COMPLETE,
        "the run is complete; not known to have its final model: dan",
        None,
    )


def test_without_the_final_model_a_node_waits_for_whoever_has_it_and_fails_when_nobody_comes() -> None:
    assert ending([DONE], holds=False, now=100.0)[0] is None
    assert ending([AWAY], holds=False, now=130.0)[0] == ExitCode.NO_FINAL_MODEL


def test_who_cannot_have_the_final_model_of_linked_members_stops_trying_and_says_why() -> None:
    def trying(now: Any) -> Any:
        return decide_exit([SLOW], holds=False, serve_until=0.0, now=now, hopeless_at=130.0, flaw="no way")

    assert trying(129.9) == (None, "serving 1", 130.0)
    assert trying(130.0) == (
        ExitCode.NO_FINAL_MODEL,
        "the run ended, but its final model could not be had: no way",
        None,
    )


def test_a_confirmed_member_that_has_gone_still_counts_as_complete() -> None:
    gone = RemainingNode("ben", confirmed=True, given_up_at=101.0)
    assert ending([gone], holds=True, now=100.0)[:2] == (ExitCode.COMPLETE, "the run is complete everywhere")


def test_one_started_on_a_finished_run_finds_its_model_before_it_judges() -> None:
    assert ending([], holds=False, now=100.0, serve_until=130.0) == (
        None,
        "serving nodes that come late",
        130.0,
    )
    assert ending([], holds=False, now=130.0, serve_until=130.0)[0] == ExitCode.NO_FINAL_MODEL


def test_one_started_on_a_finished_run_that_nobody_else_is_in_stays_for_whoever_comes() -> None:
    assert ending([], holds=True, now=100.0, serve_until=130.0) == (
        None,
        "serving nodes that come late",
        130.0,
    )
    assert ending([], holds=True, now=130.0, serve_until=130.0)[0] == ExitCode.COMPLETE


def test_one_started_on_a_finished_run_that_everybody_confirms_goes_at_once() -> None:
    assert ending([DONE], holds=True, now=100.0, serve_until=130.0)[0] == ExitCode.COMPLETE


BASE = LeaveSituation(in_run=True, is_over=False, is_member=True, others=4, reachable=4, leaving=0)


@pytest.mark.parametrize(
    ("changes", "at_once", "says"),
    [
        ({}, False, "the 4 others go on and tolerate the loss of 1"),
        ({"others": 2, "reachable": 2}, False, "the 2 others go on and tolerate the loss of none"),
        ({"in_run": False}, True, "no member of a run"),
        ({"is_member": False}, True, "no member of a run"),
        ({"is_over": True}, True, "the run is complete"),
        ({"reachable": 1}, True, "2 of 5 members are reachable, 3 needed"),
        ({"reachable": 2}, False, "2 of 4 members are reachable, 3 needed: the run will pause. So it votes"),
        ({"leaving": 4}, True, "nobody stays in the run"),
        ({"others": 0, "reachable": 0}, True, "nobody stays in the run"),
        ({"others": 1, "reachable": 1}, False, "the other member goes on alone"),
    ],
)
def test_a_leaver_is_told_what_its_leaving_means(
    changes: dict[str, bool] | dict[str, int], at_once: bool, says: str
) -> None:
    verdict, text = decide_leaving(msgspec.structs.replace(BASE, **changes))
    assert verdict == at_once
    assert says in text


def test_a_run_without_a_counted_update_ends_with_a_code_of_its_own() -> None:
    code, reason, _ = decide_exit([DONE], holds=True, serve_until=0.0, now=100.0, is_trained=False)
    assert code == ExitCode.UNTRAINED
    assert code not in (ExitCode.COMPLETE, ExitCode.LEFT, ExitCode.NO_FINAL_MODEL)
    assert "no update was ever counted" in reason


def test_a_run_that_an_operator_ended_is_stopped_not_complete() -> None:
    code, reason, _ = decide_exit([DONE], holds=True, serve_until=0.0, now=100.0, is_whole=False)
    assert (code, reason) == (ExitCode.COMPLETE, "the run was stopped everywhere")


DROPPED = DroppedSituation(
    holds=True,
    holders=1,
    members=3,
    reachable=3,
    is_past=False,
    dropped_at=100.0,
    linger=30.0,
    round_cap=600.0,
    now=105.0,
)


def parting(
    **changes: bool | float,
) -> Any:
    return decide_departure(msgspec.structs.replace(DROPPED, **changes))


def test_a_leaver_that_was_dropped_serves_until_a_quorum_of_the_others_has_its_model() -> None:
    assert parting() == (False, "serving the model until 2 of the 3 others have it", 700.0)
    assert parting(holders=2) == (True, "2 of the 3 others have the model", None)


def test_a_leaver_that_nobody_needs_goes() -> None:
    assert parting(holds=False)[0]
    assert parting(is_past=True)[0]


def test_a_leaver_does_not_serve_for_ever() -> None:
    assert not parting(reachable=1, now=129.0)[0]
    assert parting(reachable=1, now=130.0) == (True, "only 1 of the 3 others have the model", None)
    assert parting(now=700.0)[0]
