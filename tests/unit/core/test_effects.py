"""Which saves the effects behind them wait for."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfl.core.effects import (
    Companion,
    SaveAccepted,
    SaveClosed,
    SaveCommit,
    SaveGenesis,
    SavePromise,
    SaveRefused,
    SaveResumed,
    SaveSeen,
    SaveUpdate,
    can_wait,
    fetch_record,
    fetch_update,
    needs_own_fsync,
)
from tests.support.core import ballot, chain_of
from tests.support.records import LAYOUT, NAMES, SPEC, STATEFUL, controlled, update

CHAIN = chain_of(*NAMES[:3])
RECORD = CHAIN.commit().record


@pytest.mark.parametrize(
    "save",
    [
        SavePromise(CHAIN.run, 1, ballot(1, "ada"), 1),
        SaveAccepted(CHAIN.run, 1, ballot(1, "ada"), RECORD, 1),
        SaveGenesis(CHAIN.run, CHAIN.genesis),
        SaveResumed(CHAIN.run, 1),
        SaveRefused("it is a copy"),
        SaveClosed(CHAIN.run),
    ],
    ids=lambda save: type(save).__name__,
)
def test_nothing_is_said_before_what_votes_rest_on_is_on_disk(save: Any) -> None:
    assert not can_wait(save)


@pytest.mark.parametrize(("then", "waits"), [("go", True), ("pause", False), ("end", False)])
def test_a_commit_that_only_goes_on_can_wait(then: str, waits: bool) -> None:
    assert can_wait(SaveCommit(CHAIN.run, chain_of(*NAMES[:3]).commit(then=then), 1.0)) is waits


@pytest.mark.parametrize("at_once", [True, False])
def test_votes_of_others_can_wait_unless_something_rests_on_them_now(at_once: bool) -> None:
    assert can_wait(SaveSeen((), at_once)) is not at_once


@pytest.mark.parametrize(("seconds", "own"), [(1.0, True), (1.5, False), (2.0, False)])
def test_an_update_can_wait_and_is_worth_a_flush_once_it_took_longer_to_train(
    seconds: float, own: bool
) -> None:
    save = SaveUpdate(CHAIN.run, 1, CHAIN.run, update("ada", 1))
    assert can_wait(save)
    assert save.update.seconds == 1.5
    assert needs_own_fsync(save, seconds) is own


def test_no_other_save_is_worth_a_flush_of_its_own() -> None:
    assert not needs_own_fsync(SaveClosed(CHAIN.run), 0.0)


def test_the_state_of_a_record_is_fetched_with_its_model() -> None:
    chain = chain_of(*NAMES[:3], rounds=1, spec=STATEFUL)
    blobs = chain.commits[0].record.blobs
    fetch = fetch_record(blobs, chain.genesis, ("ben",), parent=chain.genesis.model)
    assert fetch.digests == blobs.digests == (blobs.model, blobs.state)
    assert fetch.companions == (Companion(blobs.state, "state", STATEFUL),)
    assert (fetch.durable, fetch.layout, fetch.parent) == (True, chain.genesis.layout, chain.genesis.model)
    first = fetch_record(chain.genesis.blobs, chain.genesis, ())
    assert (first.digests, first.companions) == ((chain.genesis.model,), ())


def test_the_control_of_an_update_is_fetched_with_it_and_neither_need_be_durable() -> None:
    mine = controlled(update("ada", 1))
    fetch = fetch_update(mine.blobs, LAYOUT, STATEFUL, ("ada",), "parent")
    assert fetch.digests == (mine.digest, mine.blobs.control)
    assert fetch.companions == (Companion(mine.blobs.control, "control", STATEFUL),)
    assert not fetch.durable
    assert fetch_update(update("ada", 1).blobs, LAYOUT, SPEC, (), "parent").companions == ()
