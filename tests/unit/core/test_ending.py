from __future__ import annotations

import msgspec
import pytest

from p2pfl.core.context import Context
from p2pfl.core.effects import Exit
from p2pfl.core.ending import Ending
from p2pfl.core.ledger import Ledger
from p2pfl.core.running import Running
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import RecordBlobs, Status
from tests.support.core import NOW, chain_of, context, ledger, link, of_kind, options, status, taken
from tests.support.records import NAMES


def ended(ctx: Context, **said: object) -> Status:
    """What a member says that has the final record."""
    book = finished(ctx)
    return status(run=book.run, round=book.round, ended=True, holds=True, **said)


def finished(ctx: Context) -> Ledger:
    chain = chain_of(*NAMES[:3], rounds=1)
    chain.commit(kind="evaluate", then="end")
    return ledger(ctx, chain)


def again_at(ctx: Context) -> float | None:
    """When the node looks again whether it may exit; None where it exits."""
    return Ending(ctx, lambda: None).consider_ending(finished(ctx))


@pytest.fixture
def ctx() -> Context:
    """A node that has a link with one of the two other members of a run that has ended, but none with cleo."""
    return context("ada", linked=["ben"], started=NOW)


def test_a_member_never_linked_here_is_left_soon_to_a_member_that_is_linked_with_all(ctx: Context) -> None:
    link(ctx, "ben", ended(ctx, links=2))
    assert again_at(ctx) == NOW + ctx.settings.start_grace


def test_it_is_lingered_for_where_no_other_member_reaches_all(ctx: Context) -> None:
    link(ctx, "ben", ended(ctx, links=1))
    assert again_at(ctx) == NOW + ctx.settings.linger


def test_a_member_that_was_linked_here_is_lingered_for(ctx: Context) -> None:
    link(ctx, "ben", ended(ctx, links=2))
    link(ctx, "cleo").linked = False
    assert again_at(ctx) == NOW + ctx.settings.linger


def test_a_member_in_no_run_is_lingered_for_since_its_link_is_up(ctx: Context) -> None:
    link(ctx, "ben", ended(ctx, links=2))
    link(ctx, "cleo", status(run=""))
    assert again_at(ctx) == NOW + ctx.settings.linger


def test_a_member_that_cannot_take_part_is_not_waited_for(ctx: Context) -> None:
    link(ctx, "ben", ended(ctx, links=2))
    link(ctx, "cleo", status(run="")).declined = finished(ctx).run
    assert again_at(ctx) is None
    assert [effect.code for effect in of_kind(taken(ctx), Exit)] == [0]


def test_a_run_that_goes_on_does_not_end(ctx: Context) -> None:
    going_on = ledger(ctx, chain_of(*NAMES[:3], rounds=1))
    assert Ending(ctx, lambda: None).consider_ending(going_on) is None
    assert taken(ctx) == []


@pytest.mark.parametrize(
    ("holds", "trained", "code"),
    [(True, True, 0), (True, False, ExitCode.UNTRAINED), (False, True, ExitCode.LEFT)],
)
def test_who_leaves_a_complete_run_exits_as_the_run_did(
    ctx: Context, holds: bool, trained: bool, code: int
) -> None:
    book = finished(ctx)
    book.holds = holds
    if not trained:
        book.genesis = msgspec.structs.replace(book.genesis, blobs=RecordBlobs(book.model))
    running = Running(ctx, book, ready=True)
    running.open_round()
    Ending(ctx, lambda: None).leave(running)
    assert [effect.code for effect in of_kind(taken(ctx), Exit)] == [code]


def test_a_node_that_is_to_stay_does_not_exit_though_everybody_has_the_final_model(ctx: Context) -> None:
    ctx.options = options(stay=True)
    for name in NAMES[1:3]:
        link(ctx, name, ended(ctx, links=2))
    assert again_at(ctx) is None
    assert of_kind(taken(ctx), Exit) == []
