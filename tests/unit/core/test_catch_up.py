"""What overtakes a commit waits for it; a commit that does not come is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfl.core.catch_up import CatchUp
from p2pfl.core.context import Context
from p2pfl.core.effects import AnyEffect
from p2pfl.core.ledger import Ledger
from p2pfl.messages import Accept, Collect, Prepare, RecordsRequest, StepDown
from tests.support.core import ballot, chain_of, context, ledger, member, receivers, sent, taken
from tests.support.records import NAMES, node


@pytest.fixture
def ctx() -> Context:
    return context("ada")


@pytest.fixture
def book(ctx: Context) -> Ledger:
    return ledger(ctx, chain_of(*NAMES[:3], rounds=2))


@pytest.fixture
def catch_up(ctx: Context, book: Ledger) -> Any:
    return CatchUp(ctx, book)


def collect(book: Ledger, round_: int, attempt: int = 1, name: str = "ben") -> Collect:
    return Collect(book.run, round_, ballot(attempt, name), selected=True)


def released(
    catch_up: CatchUp,
) -> Any:
    got = []
    catch_up.release(lambda sender, message: got.append((sender, message)))
    return got


def move(book: Ledger, rounds: int = 1) -> None:
    book.round += rounds


def wait(ctx: Context, catch_up: CatchUp, seconds: float) -> list[AnyEffect]:
    ctx.now += seconds
    catch_up.advance()
    return taken(ctx)


def test_a_message_of_the_next_round_waits_until_that_is_open(book: Ledger, catch_up: CatchUp) -> None:
    catch_up.keep(member("ben"), collect(book, 4))
    assert released(catch_up) == []
    move(book)
    assert released(catch_up) == [(member("ben"), collect(book, 4))]
    assert released(catch_up) == []


def test_the_newest_message_of_each_sender_and_kind_is_kept(book: Ledger, catch_up: CatchUp) -> None:
    stands = Prepare(book.run, 4, ballot(1, "ben"))
    catch_up.keep(member("ben"), collect(book, 4, 1))
    catch_up.keep(member("cleo"), collect(book, 4, 2, "cleo"))
    catch_up.keep(member("ben"), stands)
    catch_up.keep(member("ben"), collect(book, 4, 3))
    move(book)
    got = dict.fromkeys(message for _, message in released(catch_up))
    assert set(got) == {collect(book, 4, 3), collect(book, 4, 2, "cleo"), stands}


def test_an_answer_to_what_this_node_has_not_said_is_not_kept(book: Ledger, catch_up: CatchUp) -> None:
    catch_up.keep(member("ben"), StepDown(book.run, 4, ballot(1, "ben"), "no"))
    move(book)
    assert released(catch_up) == []


def test_a_message_of_a_round_further_on_is_not_kept(book: Ledger, catch_up: CatchUp) -> None:
    catch_up.keep(member("ben"), collect(book, 5))
    move(book, 2)
    assert released(catch_up) == []


def test_the_commit_in_between_is_asked_for_when_it_has_not_come_after_a_moment(
    ctx: Context, book: Ledger, catch_up: CatchUp
) -> None:
    catch_up.keep(member("ben"), collect(book, 4))
    assert taken(ctx) == []
    assert catch_up.deadline == ctx.now + ctx.settings.overtaken
    effects = wait(ctx, catch_up, ctx.settings.overtaken)
    assert sent(effects, RecordsRequest) == [RecordsRequest(book.run, 2)]
    assert receivers(effects, RecordsRequest) == [node("ben")]
    assert catch_up.deadline is None


def test_the_commit_that_came_is_not_asked_for(ctx: Context, book: Ledger, catch_up: CatchUp) -> None:
    catch_up.keep(member("ben"), collect(book, 4))
    move(book)
    assert wait(ctx, catch_up, ctx.settings.overtaken) == []
    assert catch_up.deadline is None


def test_who_is_several_rounds_behind_asks_at_once(ctx: Context, book: Ledger, catch_up: CatchUp) -> None:
    catch_up.suspect(node("ben"), 4)
    assert sent(taken(ctx), RecordsRequest) == [RecordsRequest(book.run, 2)]


def test_a_peer_that_is_not_ahead_is_asked_for_nothing(ctx: Context, book: Ledger, catch_up: CatchUp) -> None:
    catch_up.suspect(node("ben"), 2)
    assert catch_up.deadline is None
    assert wait(ctx, catch_up, 10.0) == []


def test_nobody_is_asked_twice_in_a_row_unless_an_answer_came(
    ctx: Context, book: Ledger, catch_up: CatchUp
) -> None:
    catch_up.ask(node("ben"))
    catch_up.ask(node("cleo"))
    assert receivers(taken(ctx), RecordsRequest) == [node("ben")]
    catch_up.ask_again()
    catch_up.ask(node("cleo"))
    assert receivers(taken(ctx), RecordsRequest) == [node("cleo")]
    ctx.now += ctx.settings.resend
    catch_up.ask(node("ben"))
    assert receivers(taken(ctx), RecordsRequest) == [node("ben")]


def test_a_proposal_is_kept_like_any_other_message(book: Ledger, catch_up: Any) -> None:
    record = chain_of(*NAMES[:3], rounds=4).commits[3].record
    catch_up.keep(member("ben"), Accept(book.run, 4, ballot(1, "ben"), record))
    move(book)
    assert [message.record for _, message in released(catch_up)] == [record]
