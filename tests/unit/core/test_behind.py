"""What overtakes a commit waits for it; a commit that does not come is asked for."""

import pytest

from p2pfl.core.behind import Behind
from p2pfl.messages import Accept, Ask, Collect, Prepare, Yield
from tests.support.core import ballot, chain_of, context, ledger, member, receivers, sent, taken
from tests.support.records import NAMES, node


@pytest.fixture
def ctx():
    return context("ada")


@pytest.fixture
def book(ctx):
    return ledger(ctx, chain_of(*NAMES[:3], rounds=2))


@pytest.fixture
def behind(ctx, book):
    return Behind(ctx, book)


def collect(book, round_, attempt=1, name="ben"):
    return Collect(book.run, round_, ballot(attempt, name), selected=True)


def released(behind):
    got = []
    behind.release(lambda sender, message: got.append((sender, message)))
    return got


def move(book, rounds=1):
    book.round += rounds


def wait(ctx, behind, seconds):
    ctx.now += seconds
    behind.advance()
    return taken(ctx)


def test_a_message_of_the_next_round_waits_until_that_is_open(book, behind):
    behind.keep(member("ben"), collect(book, 4))
    assert released(behind) == []
    move(book)
    assert released(behind) == [(member("ben"), collect(book, 4))]
    assert released(behind) == []


def test_the_newest_message_of_each_sender_and_kind_is_kept(book, behind):
    stands = Prepare(book.run, 4, ballot(1, "ben"))
    behind.keep(member("ben"), collect(book, 4, 1))
    behind.keep(member("cleo"), collect(book, 4, 2, "cleo"))
    behind.keep(member("ben"), stands)
    behind.keep(member("ben"), collect(book, 4, 3))
    move(book)
    got = dict.fromkeys(message for _, message in released(behind))
    assert set(got) == {collect(book, 4, 3), collect(book, 4, 2, "cleo"), stands}


def test_an_answer_to_what_this_node_has_not_said_is_not_kept(book, behind):
    behind.keep(member("ben"), Yield(book.run, 4, ballot(1, "ben"), "no"))
    move(book)
    assert released(behind) == []


def test_a_message_of_a_round_further_on_is_not_kept(book, behind):
    behind.keep(member("ben"), collect(book, 5))
    move(book, 2)
    assert released(behind) == []


def test_the_commit_in_between_is_asked_for_when_it_has_not_come_after_a_moment(ctx, book, behind):
    behind.keep(member("ben"), collect(book, 4))
    assert taken(ctx) == []
    assert behind.deadline == ctx.now + ctx.settings.overtaken
    effects = wait(ctx, behind, ctx.settings.overtaken)
    assert sent(effects, Ask) == [Ask(book.run, 2)]
    assert receivers(effects, Ask) == [node("ben")]
    assert behind.deadline is None


def test_the_commit_that_came_is_not_asked_for(ctx, book, behind):
    behind.keep(member("ben"), collect(book, 4))
    move(book)
    assert wait(ctx, behind, ctx.settings.overtaken) == []
    assert behind.deadline is None


def test_who_is_several_rounds_behind_asks_at_once(ctx, book, behind):
    behind.suspect(node("ben"), 4)
    assert sent(taken(ctx), Ask) == [Ask(book.run, 2)]


def test_a_peer_that_is_not_ahead_is_asked_for_nothing(ctx, book, behind):
    behind.suspect(node("ben"), 2)
    assert behind.deadline is None
    assert wait(ctx, behind, 10.0) == []


def test_nobody_is_asked_twice_in_a_row_unless_an_answer_came(ctx, book, behind):
    behind.ask(node("ben"))
    behind.ask(node("cleo"))
    assert receivers(taken(ctx), Ask) == [node("ben")]
    behind.ask_again()
    behind.ask(node("cleo"))
    assert receivers(taken(ctx), Ask) == [node("cleo")]
    ctx.now += ctx.settings.resend
    behind.ask(node("ben"))
    assert receivers(taken(ctx), Ask) == [node("ben")]


def test_a_proposal_is_kept_like_any_other_message(book, behind):
    record = chain_of(*NAMES[:3], rounds=4).commits[3].record
    behind.keep(member("ben"), Accept(book.run, 4, ballot(1, "ben"), record))
    move(book)
    assert [message.record for _, message in released(behind)] == [record]
