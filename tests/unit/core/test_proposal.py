from __future__ import annotations

from typing import Any

import pytest

from p2pfl.cards import DataCard
from p2pfl.core.collection import Collection, Contribution, Stage
from p2pfl.core.context import Context
from p2pfl.core.ledger import Ledger
from p2pfl.core.proposal import Draft
from p2pfl.messages import Record, RecordBlobs, Status
from tests.support.core import ballot, chain_of, context, ledger, link, member, model, status, unlink
from tests.support.records import CARD, NAMES, evaluation, node, update


@pytest.fixture
def ctx() -> Context:
    return context("ada")


@pytest.fixture
def book(ctx: Context) -> Ledger:
    return ledger(ctx, chain_of(*NAMES[:3], rounds=1))


def draft(
    book: Ledger, ctx: Context, *, contributions: dict[str, Contribution] | None = None, leaving: bool = False
) -> Record:
    given = {node(name): Contribution(Stage.COUNTED, update(name, 2)) for name in NAMES[:3]}
    collection = Collection({node(name) for name in NAMES[:3]}, 1, given | (contributions or {}))
    return Draft(book, collection, ballot(1, "ada"), frozenset(), leaving).record(
        ctx, RecordBlobs(model("average")), ""
    )


def names(record: Record) -> tuple[str, ...]:
    return tuple(entry.name for entry in record.roster)


def learner(book: Ledger, **changes: Any) -> Status:
    return status(run=book.run, round=book.round, record=book.digest, holds=True, **changes)


def test_the_manifest_is_in_the_order_of_node_ids_whatever_came_first(ctx: Context, book: Ledger) -> None:
    record = draft(book, ctx)
    assert [entry.node for entry in record.updates] == sorted(node(name) for name in NAMES[:3])


def test_a_learner_that_holds_the_parent_joins_with_the_next_round(ctx: Context, book: Ledger) -> None:
    link(ctx, "dan", learner(book))
    record = draft(book, ctx)
    assert names(record) == NAMES[:4]
    assert record.note == "joined: dan"


@pytest.mark.parametrize(
    "changes", [{"holds": False}, {"record": model("older")}, {"run": model("run")}, {"phase": "leaving"}]
)
def test_who_lacks_the_parent_or_is_leaving_does_not_join(
    ctx: Context, book: Ledger, changes: dict[str, bool] | dict[str, str] | dict[str, str]
) -> None:
    said = {"run": book.run, "round": 1, "record": book.digest, "holds": True, **changes}
    link(ctx, "dan", status(**said))
    assert names(draft(book, ctx)) == NAMES[:3]


def test_a_learner_whose_link_ended_does_not_join(ctx: Context, book: Ledger) -> None:
    link(ctx, "dan", learner(book))
    unlink(ctx, "dan")
    assert names(draft(book, ctx)) == NAMES[:3]


def test_a_node_with_a_new_journal_takes_its_old_seat(ctx: Context, book: Ledger) -> None:
    link(ctx, "ben", learner(book), other_journal="ben's new disk")
    record = draft(book, ctx)
    (entry,) = [entry for entry in record.roster if entry.name == "ben"]
    assert entry.member == member("ben", "ben's new disk")
    assert entry.slot == 1


def test_a_leaving_aggregator_drops_itself(ctx: Context, book: Ledger) -> None:
    assert names(draft(book, ctx, leaving=True)) == ("ben", "cleo")


def test_a_member_is_dropped_only_after_a_long_absence(ctx: Context) -> None:
    book = ledger(ctx, chain_of(*NAMES[:4], rounds=1))
    link(ctx, "dan")
    unlink(ctx, "dan")
    ctx.now += book.spec.participation.drop_after - 1
    assert names(draft(book, ctx)) == NAMES[:4]
    ctx.now += 1
    assert names(draft(book, ctx)) == NAMES[:3]


@pytest.mark.parametrize(
    ("contribution", "reason"),
    [
        (
            Contribution(Stage.REFUSED, update("ben", 2), "tensor weight holds a NaN"),
            "tensor weight holds a NaN",
        ),
        (Contribution(Stage.DECLINED, reason="its training failed"), "its training failed"),
        (Contribution(Stage.ANNOUNCED, update("ben", 2)), "its update could not be pulled in time"),
    ],
)
def test_who_is_left_out_is_named_with_the_reason(
    ctx: Context, book: Ledger, contribution: Contribution, reason: str
) -> None:
    record = draft(book, ctx, contributions={node("ben"): contribution})
    assert [(left.node, left.reason) for left in record.left_out] == [(node("ben"), reason)]


def test_a_member_whose_pull_failed_and_that_did_not_announce_again_is_left_out_for_that_failure(
    ctx: Context, book: Ledger
) -> None:
    given = {node(name): Contribution(Stage.COUNTED, update(name, 2)) for name in ("ada", "cleo")}
    failures = {node("ben"): "tensor weight holds a NaN"}
    collection = Collection({node(name) for name in NAMES[:3]}, 1, given, failures=failures)
    record = Draft(book, collection, ballot(1, "ada"), frozenset(), False).record(
        ctx, RecordBlobs(model("average")), ""
    )
    assert [(left.node, left.reason) for left in record.left_out] == [
        (node("ben"), "tensor weight holds a NaN")
    ]


def test_evaluations_count_also_of_members_without_an_update(ctx: Context, book: Ledger) -> None:
    seen = Contribution(Stage.NOTHING, evaluation=evaluation(8, 10, 2.0))
    record = draft(book, ctx, contributions={node("ben"): seen})
    assert [(one.node, one.evaluation.sums["accuracy"]) for one in record.evaluations] == [(node("ben"), 8)]


@pytest.mark.parametrize(
    "card",
    [
        None,
        DataCard("digits", 1000, CARD.labels[1:]),
        DataCard("digits", 1001, CARD.labels),
        DataCard("mnist", 1, ()),
    ],
    ids=["none", "classes missing", "more than the data set has", "another task"],
)
def test_a_learner_without_a_card_that_fits_the_agreement_does_not_join(
    ctx: Context, book: Ledger, card: DataCard | None
) -> None:
    link(ctx, "dan", learner(book)).card = card
    assert names(draft(book, ctx)) == NAMES[:3]
    ctx.peers[node("dan")].card = CARD
    assert names(draft(book, ctx)) == NAMES[:4]
    assert draft(book, ctx).roster[-1].examples == CARD.examples


def test_a_member_that_leaves_without_an_update_is_left_out_for_that_reason(
    ctx: Context, book: Ledger
) -> None:
    link(ctx, "cleo", status(run=book.run, phase="leaving"))
    given = {node("cleo"): Contribution(Stage.NOTHING)}
    (left,) = draft(book, ctx, contributions=given).left_out
    assert (left.node, left.reason) == (node("cleo"), "it is leaving")
