from typing import Any

import msgspec
import pytest

from p2pfl.core.abandoned_runs import (
    MAX_HOPELESS,
    MODEL_TRIES,
    PAUSE_SECONDS,
    AbandonedRuns,
    UnbegunRun,
    decide_giving_up,
)
from tests.support.core import chain_of, context, ledger, link, status
from tests.support.records import NAMES, node

BASE = UnbegunRun(
    is_member=True,
    holds=True,
    failed=0,
    here=1,
    coming=0,
    lost=2,
    needed=2,
    others=2,
    reason="pi cannot be dialled",
    since=100.0,
    patience=2.0,
    now=102.0,
)


def decide(**changes: bool | float | int) -> Any:
    return decide_giving_up(msgspec.structs.replace(BASE, **changes))


def test_a_run_too_few_can_take_part_in_is_given_up_with_the_reason() -> None:
    text = "only 1 of its members can take part, 2 are needed: pi cannot be dialled"
    assert decide() == (True, text, None)
    assert decide(now=101.0) == (False, "too few members can take part", 102.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"others": 0},
        {"coming": 1},
        {"here": 2},
        {"lost": 0},
    ],
)
def test_a_run_that_may_still_begin_is_not_given_up(changes: dict[str, int]) -> None:
    assert not decide(**changes)[0]


def test_a_learner_that_has_the_model_of_a_run_without_members_gives_it_up() -> None:
    assert decide(is_member=False, here=0, lost=0)[0]


def test_a_run_whose_first_model_nobody_has_is_given_up_after_some_tries() -> None:
    assert not decide(holds=False, failed=MODEL_TRIES - 1)[0]
    given_up, reason, _ = decide(holds=False, failed=MODEL_TRIES)
    assert (given_up, reason) == (True, "nobody who is here has its first model: pi cannot be dialled")


def test_members_that_declined_or_lost_their_disk_cannot_come() -> None:
    ctx = context("ada", linked=())
    book = ledger(ctx, chain_of(*NAMES[:4]))
    link(ctx, "ben").declined = book.run
    link(ctx, "cleo", other_journal="cleo's new disk")
    link(ctx, "dan", status())
    abandoned_runs = AbandonedRuns(ctx)
    ctx.peers[node("ben")].declined_because = "pi cannot be dialled"
    assert not abandoned_runs.consider(book, 0, "")[0]
    ctx.now += ctx.settings.steady
    given_up, reason, _ = abandoned_runs.consider(book, 0, "")
    assert given_up
    assert reason.endswith("pi cannot be dialled")
    assert abandoned_runs.consider(book, 0, "")[0]
    ctx.peers[node("ben")].declined = ""
    ctx.peers[node("ben")].status = ctx.peers[node("dan")].status
    assert not abandoned_runs.consider(book, 0, "")[0], "ben and dan may still come"


def test_the_founder_of_a_run_that_came_to_nothing_lets_others_try_for_a_while() -> None:
    ctx = context("ada")
    abandoned_runs = AbandonedRuns(ctx)
    abandoned_runs.give_up("run", "pi cannot be dialled")
    abandoned_runs.fail("ben", "pi cannot be dialled")
    assert abandoned_runs.is_hopeless("run")
    assert abandoned_runs.failed() == {"ben": "pi cannot be dialled"}
    assert abandoned_runs.next_try == ctx.now + PAUSE_SECONDS
    ctx.now += PAUSE_SECONDS
    assert not abandoned_runs.is_hopeless("run"), "who has accepted something there cannot leave it"
    assert abandoned_runs.failed() == {}
    assert abandoned_runs.next_try is None


def test_runs_that_came_to_nothing_are_remembered_in_bounded_number() -> None:
    abandoned_runs = AbandonedRuns(context("ada"))
    for number in range(2 * MAX_HOPELESS):
        abandoned_runs.give_up(f"run {number}", "")
    assert len(abandoned_runs._hopeless) == MAX_HOPELESS
    last = f"run {2 * MAX_HOPELESS - 1}"
    assert abandoned_runs.is_hopeless(last)
    assert abandoned_runs.reason_of(last), "a reason is always told"


def test_each_genesis_of_one_process_has_a_nonce_of_its_own() -> None:
    ctx = context("ada")
    new = AbandonedRuns(ctx).new_nonce()
    assert new != ctx.options.nonce
    assert len(new) == len(ctx.options.nonce)
