from typing import Any

import msgspec

from p2pfl.core.election import Candidate, ElectionSituation, decide_candidacy

CANDIDATES = tuple(Candidate(node, ready=True, links=2, able=True) for node in "abc")

BASE = ElectionSituation(
    me="b",
    order=("a", "b", "c"),
    reachable=3,
    candidates=lambda: CANDIDATES,
    needed=2,
    eligible=True,
    since=100.0,
    lease_holder="",
    lease_until=0.0,
    not_before=0.0,
    rank_step=0.5,
    now=100.0,
)


def decide(candidates: Any = CANDIDATES, **changes: Any) -> Any:
    known = {"reachable": len(candidates), "candidates": lambda: candidates}
    return decide_candidacy(msgspec.structs.replace(BASE, **known, **changes))


def candidates(**changed: dict[str, bool] | dict[str, int]) -> tuple[Candidate, ...]:
    """The three, some of them with other fields."""
    return tuple(msgspec.structs.replace(one, **changed.get(one.node, {})) for one in CANDIDATES)


def test_the_first_in_rank_runs_at_once() -> None:
    assert decide(me="a") == (True, "first in rank", None)


def test_the_second_waits_one_step_for_the_first() -> None:
    assert decide() == (False, "number 2 in rank", 100.5)


def test_the_second_runs_when_the_first_was_silent() -> None:
    assert decide(now=100.5) == (True, "number 2 in rank, those before it are silent", None)


def test_a_node_that_lacks_the_parents_blobs_does_not_run() -> None:
    assert decide(me="a", eligible=False) == (False, "not eligible", None)


def test_a_node_that_cannot_reach_a_quorum_does_not_run_and_says_how_many_are_needed() -> None:
    alone = (Candidate("b", ready=True, links=0, able=True),)
    assert decide(candidates=alone, now=999.0) == (False, "1 of 3 reachable, 2 needed", None)


def test_a_promise_to_a_live_candidate_is_a_bounded_leader_lease() -> None:
    lease = {"me": "a", "lease_holder": "c", "lease_until": 160.0}
    assert decide(**lease, now=159.0) == (False, "a live candidate has this vote", 160.0)
    assert decide(**lease, now=160.0)[0]


def test_a_refused_candidate_backs_off() -> None:
    assert decide(me="a", not_before=103.0) == (False, "number 1 in rank", 103.0)
    assert decide(me="a", not_before=103.0, now=103.0)[0]


def test_a_node_that_stepped_down_runs_last() -> None:
    assert decide(candidates=candidates(a={"able": False})) == (True, "first in rank", None)
    assert decide(me="a", candidates=candidates(a={"able": False}))[2] == 101.0


def test_a_node_whose_worker_is_loading_runs_after_those_that_are_ready() -> None:
    assert decide(candidates=candidates(a={"ready": False}))[0]


def test_candidates_with_more_links_run_first() -> None:
    assert decide(candidates=candidates(b={"links": 3}))[0]


def test_ranks_close_up_when_a_member_is_unreachable() -> None:
    assert decide(candidates=CANDIDATES[1:])[0]
