import pytest

from p2pfl.core.collection import Collection, Contribution, Stage
from p2pfl.core.proposal import Draft
from p2pfl.messages import Evaluation
from tests.support.core import ballot, chain_of, context, ledger, link, member, model, status, unlink
from tests.support.records import NAMES, node, update


@pytest.fixture
def ctx():
    return context("ada")


@pytest.fixture
def book(ctx):
    return ledger(ctx, chain_of(*NAMES[:3], rounds=1))


def draft(book, ctx, *, contributions=None, leaving=False):
    given = {node(name): Contribution(Stage.COUNTED, update(name, 2)) for name in NAMES[:3]}
    collection = Collection({node(name) for name in NAMES[:3]}, 1, given | (contributions or {}))
    return Draft(book, collection, ballot(1, "ada"), frozenset(), leaving).record(ctx, model("average"), "")


def names(record):
    return tuple(entry.name for entry in record.roster)


def learner(book, **changes):
    return status(run=book.run, round=book.round, record=book.digest, holds=True, **changes)


def test_the_manifest_is_in_the_order_of_node_ids_whatever_came_first(ctx, book):
    record = draft(book, ctx)
    assert [entry.node for entry in record.updates] == sorted(node(name) for name in NAMES[:3])


def test_a_learner_that_holds_the_parent_joins_with_the_next_round(ctx, book):
    link(ctx, "dan", learner(book))
    record = draft(book, ctx)
    assert names(record) == NAMES[:4]
    assert record.note == "joined: dan"


@pytest.mark.parametrize(
    "changes", [{"holds": False}, {"record": model("older")}, {"run": model("run")}, {"phase": "leaving"}]
)
def test_who_lacks_the_parent_or_is_leaving_does_not_join(ctx, book, changes):
    said = {"run": book.run, "round": 1, "record": book.digest, "holds": True, **changes}
    link(ctx, "dan", status(**said))
    assert names(draft(book, ctx)) == NAMES[:3]


def test_a_learner_whose_link_ended_does_not_join(ctx, book):
    link(ctx, "dan", learner(book))
    unlink(ctx, "dan")
    assert names(draft(book, ctx)) == NAMES[:3]


def test_a_node_with_a_new_journal_takes_its_old_seat(ctx, book):
    link(ctx, "ben", learner(book), other_journal="ben's new disk")
    record = draft(book, ctx)
    (entry,) = [entry for entry in record.roster if entry.name == "ben"]
    assert entry.member == member("ben", "ben's new disk")
    assert entry.slot == 1


def test_a_leaving_aggregator_drops_itself(ctx, book):
    assert names(draft(book, ctx, leaving=True)) == ("ben", "cleo")


def test_a_member_is_dropped_only_after_a_long_absence(ctx):
    book = ledger(ctx, chain_of(*NAMES[:4], rounds=1))
    link(ctx, "dan")
    unlink(ctx, "dan")
    ctx.now += book.spec.drop_after - 1
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
def test_who_is_left_out_is_named_with_the_reason(ctx, book, contribution, reason):
    record = draft(book, ctx, contributions={node("ben"): contribution})
    assert [(left.node, left.reason) for left in record.left_out] == [(node("ben"), reason)]


def test_evaluations_count_also_of_members_without_an_update(ctx, book):
    seen = Contribution(Stage.NOTHING, evaluation=Evaluation(8, 10, 2.0))
    record = draft(book, ctx, contributions={node("ben"): seen})
    assert [(one.node, one.evaluation.correct) for one in record.evaluations] == [(node("ben"), 8)]
