from __future__ import annotations

from typing import Any

import pytest

from p2pfl.core.acceptor import Acceptor
from p2pfl.core.aggregator import Aggregator, Candidacy
from p2pfl.core.context import Context
from p2pfl.core.ledger import Ledger
from p2pfl.core.local_trainer import LocalTrainer
from p2pfl.core.presence import NodeCondition, Presence
from p2pfl.messages import GivenOption, Status
from tests.support.core import chain_of, context, ledger, receivers, sent, taken
from tests.support.records import NAMES, node, update


@pytest.fixture
def ctx() -> Context:
    return context("ada")


@pytest.fixture
def book(ctx: Context) -> Any:
    return ledger(ctx, chain_of(*NAMES[:3], rounds=2))


def condition(book: Any = None, **changes: Any) -> NodeCondition:
    return NodeCondition(book, None, None, ready=True, leaving=False, waiting=False)._replace(**changes)


def test_a_status_says_how_far_the_node_is(ctx: Context, book: Ledger) -> None:
    said = Presence(ctx).status(condition(book))
    assert (said.run, said.round, said.record) == (book.run, 2, book.digest)
    assert (said.holds, said.ended, said.rounds, said.links) == (True, False, 10, 2)


def test_a_node_in_no_run_says_so(ctx: Context) -> None:
    said = Presence(ctx).status(condition())
    assert (said.run, said.round, said.record, said.links) == ("", 0, "", 2)


def test_a_change_others_act_on_is_said_at_once_and_only_once(ctx: Context, book: Ledger) -> None:
    presence = Presence(ctx)
    presence.refresh(condition(book))
    assert receivers(taken(ctx), Status) == [node("ben"), node("cleo")]
    presence.refresh(condition(book))
    assert taken(ctx) == []
    presence.refresh(condition(book, leaving=True))
    assert sent(taken(ctx), Status)[0].phase == "leaving"


def test_what_a_founding_depends_on_is_said_at_once(ctx: Context) -> None:
    presence = Presence(ctx)
    presence.refresh(condition())
    taken(ctx)
    given = (GivenOption("rounds", "5"),)
    for changes in ({"complete": True}, {"complete": True, "choice": 1}):
        presence.refresh(condition(given=given, **changes))
        said = sent(taken(ctx), Status)[0]
        assert (said.complete, said.choice, said.given) == (True, changes.get("choice", 0), given)


def test_progress_waits_for_the_heartbeat(ctx: Context, book: Ledger) -> None:
    presence = Presence(ctx)
    presence.refresh(condition(book))
    taken(ctx)
    local_trainer = LocalTrainer(ctx, book, lambda submit: None, training=True, progress=0.5)
    presence.refresh(condition(book, local_trainer=local_trainer))
    assert taken(ctx) == []
    ctx.now += ctx.settings.heartbeat
    presence.refresh(condition(book, local_trainer=local_trainer))
    assert {said.progress for said in sent(taken(ctx), Status)} == {0.5}


def test_a_round_further_is_said_at_once_but_not_too_often(ctx: Context, book: Ledger) -> None:
    presence, often = Presence(ctx), ctx.settings.often
    presence.refresh(condition(book))
    taken(ctx)
    ctx.now += often
    book.round += 1
    presence.refresh(condition(book))
    assert {said.round for said in sent(taken(ctx), Status)} == {3}
    ctx.now += often / 2
    book.round += 1
    presence.refresh(condition(book))
    assert taken(ctx) == []
    assert presence.next_beat == ctx.now + often / 2
    ctx.now += often / 2
    presence.refresh(condition(book))
    assert {said.round for said in sent(taken(ctx), Status)} == {4}


def test_a_learner_says_of_every_round_that_it_has_it(ctx: Context, book: Ledger) -> None:
    presence = Presence(ctx)
    book.is_member = False
    presence.refresh(condition(book))
    taken(ctx)
    book.round += 1
    presence.refresh(condition(book))
    assert {said.round for said in sent(taken(ctx), Status)} == {3}


def test_the_end_of_the_run_is_said_at_once(
    ctx: Context, book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence = Presence(ctx)
    presence.refresh(condition(book))
    taken(ctx)
    monkeypatch.setattr(type(book), "is_over", True)
    presence.refresh(condition(book))
    assert {said.ended for said in sent(taken(ctx), Status)} == {True}


def test_every_broadcast_has_a_higher_step(ctx: Context, book: Ledger) -> None:
    presence = Presence(ctx)
    presence.refresh(condition(book))
    presence.refresh(condition(book, ready=False))
    steps = [said.steps for said in sent(taken(ctx), Status)]
    assert steps == [1, 1, 2, 2]


def test_the_most_telling_phase_is_named(ctx: Context, book: Ledger) -> None:
    acceptor = Acceptor(ctx, book, lambda answer: None)
    aggregator = Aggregator(ctx, book, acceptor, lambda commit: None, set())
    local_trainer = LocalTrainer(ctx, book, lambda submit: None)
    parts = {"local_trainer": local_trainer, "aggregator": aggregator}
    assert condition(book, **parts).phase == "idle"
    local_trainer.update = update("ada", 3)
    assert condition(book, **parts).phase == "trained"
    local_trainer.training = True
    assert condition(book, **parts).phase == "training"
    aggregator.candidacy = Candidacy.COLLECTING
    assert condition(book, **parts).phase == "aggregating"
    assert condition(book, ready=False, **parts).phase == "starting"
    assert condition(book, ready=False, leaving=True, **parts).phase == "leaving"
