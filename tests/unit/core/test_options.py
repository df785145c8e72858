from __future__ import annotations

import pytest

from p2pfl.core.options import (
    Policy,
    by_node_id,
    has_lowest,
    highest_accepted,
    keeps_promise,
    next_attempt,
)
from p2pfl.messages import Record, quorum
from tests.support.core import ballot, chain_of, model
from tests.support.records import NAMES


def records() -> list[Record]:
    chain = chain_of(*NAMES[:3])
    made = []
    for word in ("low", "high"):
        made.append(chain.commit(model=model(word)).record)
        chain.commits.pop()
    return made


def test_the_value_of_the_highest_ballot_must_be_proposed() -> None:
    low, high = records()
    assert highest_accepted([(ballot(2, "ada"), high), (ballot(1, "ben"), low)]) == high


def test_between_equal_attempts_the_node_id_decides() -> None:
    low, high = records()
    assert highest_accepted([(ballot(1, "ben"), high), (ballot(1, "ada"), low)]) == high


def test_where_nothing_was_accepted_the_aggregator_is_free() -> None:
    assert highest_accepted([]) is None


def test_a_candidate_runs_with_an_attempt_above_all_it_has_promised_or_lost_to() -> None:
    assert next_attempt(None, 0) == 1
    assert next_attempt(ballot(3, "ben"), 0) == 4
    assert next_attempt(ballot(3, "ben"), 7) == 8


def test_the_lowest_ballot_is_that_of_the_first_in_rank() -> None:
    assert has_lowest(["ben", "ada"], "ben")
    assert not has_lowest(["ben", "ada"], "ada")


@pytest.mark.parametrize(("offered", "kept"), [(1, False), (2, True), (3, True)])
def test_a_vote_below_the_promise_breaks_it(offered: int, kept: bool) -> None:
    assert keeps_promise(ballot(2, "ben"), ballot(offered, "ben")) is kept
    assert keeps_promise(None, ballot(offered, "ben"))


def test_updates_are_taken_in_one_order_whoever_came_first() -> None:
    assert by_node_id(["cleo", "ada", "ben"]) == by_node_id(["ben", "cleo", "ada"]) == ["ada", "ben", "cleo"]


def test_every_rule_is_on_unless_it_is_replaced() -> None:
    policy = Policy()
    assert (policy.adopt, policy.quorum, policy.lowest) == (highest_accepted, quorum, has_lowest)
    assert (policy.attempt, policy.permits, policy.order) == (next_attempt, keeps_promise, by_node_id)
