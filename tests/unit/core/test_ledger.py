from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.core.context import Context
from p2pfl.core.effects import (
    DeleteUnneededBlobs,
    Exit,
    Fetch,
    SaveCommit,
    SaveRefused,
    SaveReport,
    SaveResumed,
    can_wait,
)
from p2pfl.core.ledger import Ledger
from p2pfl.core.saved import SavedRun
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import ClassCount, Commit, Evaluation, Origin, RecordBlobs, Report
from p2pfl.schema import layout_of
from p2pfl.spec import MetricTarget, with_options
from tests.support.core import ballot, chain_of, context, ledger, model, of_kind, taken, told
from tests.support.records import (
    NAMES,
    SCHEMA,
    SPEC,
    STATEFUL,
    Chain,
    acceptances,
    evaluation,
    evaluations,
    journal,
    node,
    resigned,
    roster,
    signed,
    update,
)


@pytest.fixture
def ctx() -> Any:
    return context("ada")


@pytest.fixture
def chain() -> Any:
    return chain_of(*NAMES[:3], rounds=1)


@pytest.fixture
def book(ctx: Context, chain: Chain) -> Any:
    """The ledger after round 1; the chain can grow on."""
    return ledger(ctx, chain)


def altered(commit: Commit, **changes: int | RecordBlobs | str) -> Commit:
    """The commit with another record, accepted by the same members."""
    record = msgspec.structs.replace(commit.record, **changes)
    return resigned(msgspec.structs.replace(commit, record=record))


# --- rule "Proof of commit" -----------------------------------------------------------------------------------


def test_the_successor_accepted_by_a_quorum_is_believed(book: Ledger, chain: Chain) -> None:
    assert book.believe(chain.commit()) is None


def test_a_commit_of_another_run_is_not_believed(book: Ledger, chain: Chain) -> None:
    assert book.believe(altered(chain.commit(), run=model("run"))) == "it belongs to another run"


def test_a_commit_out_of_order_is_not_believed(book: Ledger, chain: Chain) -> None:
    chain.commit()
    assert book.believe(chain.commit()) == "it is record 3, not 2"


def test_a_commit_of_another_parent_is_not_believed(book: Ledger, chain: Chain) -> None:
    flaw = book.believe(altered(chain.commit(), previous=model("another record")))
    assert flaw == "it follows another record than the one committed here"


def test_a_commit_without_a_quorum_of_my_roster_is_not_believed(book: Ledger, chain: Chain) -> None:
    commit = chain.commit()
    few = "1 members of the roster signed that they accepted it, 2 are needed"
    assert book.believe(resigned(commit, "ben")) == few
    assert book.believe(resigned(commit, "ben", "eve")) == few
    assert book.believe(resigned(commit, "ben", "ben")) == few
    entry = msgspec.structs.replace(roster("cleo")[0], journal=journal("new disk"))
    another = acceptances(commit.record, (*roster("ben"), entry))
    assert book.believe(msgspec.structs.replace(commit, acceptors=another)) == few


def test_copied_acceptances_do_not_prove_another_record_nor_another_ballot(
    book: Ledger, chain: Chain
) -> None:
    commit = chain.commit()
    none = "0 members of the roster signed that they accepted it, 2 are needed"
    other = msgspec.structs.replace(commit.record, blobs=RecordBlobs(model("another")))
    assert book.believe(msgspec.structs.replace(commit, record=other)) == none
    assert book.believe(msgspec.structs.replace(commit, ballot=ballot(7, "ben"))) == none
    promises = tuple(signed(name, chain.run, 2, commit.ballot) for name in ("ada", "ben"))
    assert book.believe(msgspec.structs.replace(commit, acceptors=promises)) == none


def test_the_quorum_is_that_of_the_committed_roster_and_not_of_the_one_it_decides(ctx: Context) -> None:
    chain = chain_of(*NAMES)
    commit = chain.commit(next_roster=roster("ada"))
    book = ledger(ctx, chain_of(*NAMES))
    assert book.believe(resigned(commit, "ada")) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"run": model("run")},
        {"round": 3},
        {"previous": model("another record")},
        {"trained": 5},
        {"rounds": SPEC.rounds - 1},
    ],
)
def test_a_record_that_does_not_follow_is_not_accepted_either(
    book: Ledger, chain: Chain, changes: dict[str, int] | dict[str, str]
) -> None:
    commit = chain.commit()
    assert book.succeeds(commit.record)
    assert not book.succeeds(altered(commit, **changes).record)


# --- rule "Conflicting commits" -------------------------------------------------------------------------------


def test_a_second_commit_of_the_last_round_halts_with_its_own_exit_code(ctx: Context, chain: Chain) -> None:
    book = ledger(ctx, chain)
    commit = chain.commit()
    book.commit(commit)
    taken(ctx)
    assert book.conflict(altered(commit, blobs=RecordBlobs(model("another"))), node("ben"))
    effects = taken(ctx)
    assert [effect.code for effect in of_kind(effects, Exit)] == [ExitCode.CONFLICT] == [4]
    (notice,) = told(effects, events.Notice)
    assert notice.level == "error"
    assert "Keep both data directories" in notice.text
    assert book.halted
    assert not book.is_open


def test_a_successor_of_another_last_record_halts_too(book: Ledger, chain: Chain) -> None:
    assert book.conflict(altered(chain.commit(), previous=model("the other branch")), node("ben"))


def test_the_same_commit_again_is_no_conflict(ctx: Context, chain: Chain, book: Ledger) -> None:
    commit = chain.commit()
    book.commit(commit)
    assert not book.conflict(commit, node("ben"))


def test_a_record_nobody_proved_is_no_conflict(ctx: Context, chain: Chain, book: Ledger) -> None:
    commit = chain.commit()
    book.commit(commit)
    unproved = resigned(altered(commit, blobs=RecordBlobs(model("another"))), "ben")
    assert not book.conflict(unproved, node("ben"))
    assert not book.halted


def test_after_a_restart_a_second_commit_of_the_last_round_is_noticed_too(ctx: Context, chain: Chain) -> None:
    commit = chain.commit()
    saved = SavedRun(
        chain.run,
        chain.genesis,
        commit,
        None,
        resumed=False,
        voters=chain.commits[0].record.roster,
        parent=chain.commits[0].record.blobs,
    )
    book = Ledger.restore(ctx, saved)
    assert book.conflict(altered(commit, blobs=RecordBlobs(model("another"))), node("ben"))


# --- a journal that has forgotten votes -------------------------------------------------------------------------


def test_a_commit_with_a_vote_this_journal_does_not_know_of_shows_that_it_is_a_copy(
    ctx: Context, chain: Chain, book: Ledger
) -> None:
    ctx.votes = 4
    assert not book.is_ahead_of_me(resigned(chain.commit(), votes=4))
    commit = resigned(chain.commits[-1], votes=5)
    assert book.is_ahead_of_me(commit)
    ada, ben = commit.acceptors
    forged = (msgspec.structs.replace(ada, votes=9), ben)
    assert not book.is_ahead_of_me(msgspec.structs.replace(commit, acceptors=forged))
    another = msgspec.structs.replace(roster("ada")[0], journal=journal("old disk"))
    before = acceptances(commit.record, [another], votes=9)
    assert not book.is_ahead_of_me(msgspec.structs.replace(commit, acceptors=before))


def test_such_a_node_is_marked_before_it_ends_and_never_votes_again(
    ctx: Context, chain: Chain, book: Any
) -> None:
    book.detect_forgotten_vote(chain.commit())
    effects = [effect for effect in taken(ctx) if isinstance(effect, SaveRefused | Exit)]
    assert [type(effect) for effect in effects] == [SaveRefused, Exit]
    (refused,), (left,) = of_kind(effects, SaveRefused), of_kind(effects, Exit)
    assert left.code == ExitCode.CLONED
    assert int(ExitCode.CLONED) == 8
    assert not can_wait(refused)
    assert "--new-journal" in refused.reason
    assert book.halted


def test_of_a_commit_only_what_is_proven_is_remembered(ctx: Context, chain: Chain, book: Ledger) -> None:
    commit = resigned(chain.commit(), votes=3)
    ada, ben = commit.acceptors
    junk = msgspec.structs.replace(signed("cleo", chain.run, 2, commit.ballot, "", votes=2**53))
    padded = msgspec.structs.replace(commit, acceptors=(junk, ada, ben, junk))
    assert book.believe(padded) is None
    assert book.proven(padded) == commit
    book.commit(book.proven(padded))
    assert {who.node: cast.vote.votes for who, cast in ctx.seen.items()} == {node("ben"): 3}


# --- moving on --------------------------------------------------------------------------------------------------


def test_a_commit_is_saved_first_and_then_told(ctx: Context, chain: Chain, book: Ledger) -> None:
    commit = chain.commit(next_roster=roster("ada", "ben"))
    ctx.now += 7.5
    book.commit(commit)
    effects = taken(ctx)
    assert effects[0] == SaveCommit(chain.run, commit, 7.5)
    (event,) = told(effects, events.Committed)
    assert (event.round, event.aggregator, event.contributors, event.seconds) == (2, "ben", NAMES[:3], 7.5)
    (change,) = told(effects, events.RosterChanged)
    assert (change.joined, change.left, change.members, change.tolerates) == ((), ("cleo",), 2, 0)
    assert (book.round, book.model, len(book.roster)) == (2, commit.record.model, 2)


def test_a_new_model_is_not_held_before_it_is_pulled_and_an_old_one_stays_held(
    ctx: Context, chain: Chain, book: Ledger
) -> None:
    book.commit(chain.commit(model=book.model))
    assert book.holds
    book.commit(chain.commit())
    assert not book.holds


def test_who_is_no_longer_in_the_roster_is_no_member(ctx: Context, chain: Chain, book: Ledger) -> None:
    book.commit(chain.commit(next_roster=roster("ben", "cleo")))
    assert not book.is_member


def test_the_model_is_asked_of_those_who_accepted_it_first(ctx: Context, chain: Chain, book: Ledger) -> None:
    book.commit(chain.commit())
    taken(ctx)
    book.fetch_model()
    (fetch,) = of_kind(taken(ctx), Fetch)
    assert (fetch.digest, fetch.sources) == (book.model, (node("ben"), node("cleo")))


def test_the_last_two_models_and_what_is_pinned_are_kept(ctx: Context, chain: Chain, book: Ledger) -> None:
    before = book.model
    book.commit(chain.commit())
    taken(ctx)
    book.collect({model("accepted")})
    assert of_kind(taken(ctx), DeleteUnneededBlobs) == [
        DeleteUnneededBlobs(frozenset({before, book.model, model("accepted")}))
    ]


def test_after_a_restart_the_last_two_models_are_kept_as_before(ctx: Context, chain: Chain) -> None:
    commit = chain.commit()
    saved = SavedRun(
        chain.run,
        chain.genesis,
        commit,
        None,
        resumed=False,
        voters=chain.genesis.roster,
        parent=RecordBlobs(model("one")),
    )
    Ledger.restore(ctx, saved).collect(set())
    assert of_kind(taken(ctx), DeleteUnneededBlobs) == [
        DeleteUnneededBlobs(frozenset({model("one"), commit.record.model}))
    ]


def test_a_pause_holds_the_next_round_until_it_is_lifted(ctx: Any, chain: Any, book: Any) -> None:
    book.commit(chain.commit(then="pause"))
    assert not book.is_open
    assert not book.resume(1)
    assert book.resume(2)
    assert book.is_open
    assert of_kind(taken(ctx), SaveResumed) == [SaveResumed(chain.run, 2)]
    assert not book.resume(2)


def test_after_the_last_training_round_comes_the_evaluation_and_after_that_the_end(ctx: Context) -> None:
    chain = chain_of(*NAMES[:3], rounds=1, spec=with_options(SPEC, rounds=1))
    book = ledger(ctx, chain)
    assert (book.next_kind, book.is_over) == ("evaluate", False)
    book.commit(chain.commit(kind="evaluate", then="end"))
    assert book.is_over


def test_more_rounds_reopen_a_finished_run(ctx: Context) -> None:
    chain = chain_of(*NAMES[:3], rounds=1, spec=with_options(SPEC, rounds=1))
    book = ledger(ctx, chain)
    book.commit(chain.commit(kind="evaluate", then="end"))
    book.wanted_rounds = 3
    assert (book.is_over, book.is_open, book.next_kind) == (False, True, "train")


def test_an_extension_is_wanted_until_a_record_has_it(ctx: Context, chain: Chain, book: Ledger) -> None:
    book.wanted_rounds = 30
    book.commit(chain.commit())
    assert (book.rounds, book.wanted_rounds) == (30, 30)
    commit = chain.commit()
    extended = resigned(
        msgspec.structs.replace(commit, record=msgspec.structs.replace(commit.record, rounds=30))
    )
    book.commit(extended)
    assert (book.rounds, book.wanted_rounds) == (30, 0)


# --- evaluations ------------------------------------------------------------------------------------------------


def test_reports_add_up_over_the_members(ctx: Context, chain: Chain, book: Ledger) -> None:
    book.report(node("ben"), Report(chain.run, 1, evaluation(8, 10, 5.0)))
    book.report(node("cleo"), Report(chain.run, 1, evaluation(9, 10, 1.0)))
    effects = taken(ctx)
    last = told(effects, events.EvaluationFinished)[-1]
    assert (last.primary_value, last.metrics["loss"], last.examples, last.reports, last.members) == (
        0.85,
        0.3,
        20,
        2,
        3,
    )
    assert [save.node for save in of_kind(effects, SaveReport)] == [node("ben"), node("cleo")]


def test_reports_of_other_rounds_strangers_and_repetitions_are_ignored(
    ctx: Context, chain: Chain, book: Ledger
) -> None:
    report = Report(chain.run, 1, evaluation(8, 10, 5.0))
    book.report(node("ben"), report)
    taken(ctx)
    book.report(node("ben"), report)
    book.report(node("eve"), report)
    book.report(node("cleo"), msgspec.structs.replace(report, round=2))
    book.report(node("cleo"), msgspec.structs.replace(report, run=model("run")))
    assert taken(ctx) == []


def test_committed_evaluations_are_told_where_reports_had_said_something_else(
    ctx: Context, chain: Chain, book: Ledger
) -> None:
    book.report(node("ada"), Report(chain.run, 1, evaluation(1, 10, 5.0)))
    taken(ctx)
    book.commit(chain.commit(evaluated=evaluations((8, 10), (10, 10))))
    (event,) = told(taken(ctx), events.EvaluationFinished)
    assert (event.round, event.primary_value, event.reports) == (1, 0.9, 2)
    assert event.classes[0] == ClassCount(18, 20, 20)


def test_an_accuracy_that_not_all_reported_is_told_again_when_it_is_committed(
    ctx: Context, chain: Chain, book: Ledger
) -> None:
    for entry in evaluations((8, 10), (10, 10)):
        book.report(entry.node, Report(chain.run, 1, entry.evaluation))
    (_, both) = told(taken(ctx), events.EvaluationFinished)
    assert (both.reports, both.members, both.committed) == (2, 3, False)
    book.commit(chain.commit(evaluated=evaluations((8, 10), (10, 10))))
    (event,) = told(taken(ctx), events.EvaluationFinished)
    assert (event.primary_value, event.reports, event.members, event.committed) == (0.9, 2, 3, True)


def test_an_accuracy_all_reported_is_not_told_again_when_it_is_committed(
    ctx: Context, chain: Chain, book: Ledger
) -> None:
    three = evaluations((8, 10), (10, 10), (9, 10))
    for entry in three:
        book.report(entry.node, Report(chain.run, 1, entry.evaluation))
    taken(ctx)
    book.commit(chain.commit(evaluated=three))
    (event,) = told(taken(ctx), events.EvaluationFinished)
    assert (event.committed, event.is_news, event.reported) == (True, False, None)


def test_another_accuracy_than_all_reported_is_told_with_the_one_reported(
    ctx: Context, chain: Chain, book: Ledger
) -> None:
    three = evaluations((8, 10), (10, 10), (9, 10))
    for entry in three:
        book.report(entry.node, Report(chain.run, 1, entry.evaluation))
    taken(ctx)
    book.commit(chain.commit(evaluated=three[:2]))
    (event,) = told(taken(ctx), events.EvaluationFinished)
    assert (event.primary_value, event.reports, event.members) == (0.9, 2, 3)
    assert (event.committed, event.is_news, event.reported) == (True, True, 0.9)


def test_a_round_that_was_missed_has_no_time_and_is_no_news(ctx: Context, chain: Chain, book: Ledger) -> None:
    ctx.now += 50.0
    book.commit(chain.commit(evaluated=evaluations((8, 10), (10, 10), (9, 10))), is_late=True)
    effects = taken(ctx)
    (committed,) = told(effects, events.Committed)
    (evaluated,) = told(effects, events.EvaluationFinished)
    assert (committed.seconds, committed.is_late, evaluated.is_news) == (0.0, True, False)
    ctx.now += 5.0
    book.commit(chain.commit())
    (first,) = told(taken(ctx), events.Committed)
    assert (first.seconds, first.is_late) == (0.0, False), "when that round began is not known here"
    ctx.now += 5.0
    book.commit(chain.commit())
    (second,) = told(taken(ctx), events.Committed)
    assert second.seconds == 5.0


def test_a_run_that_continues_another_counts_its_rounds_on(ctx: Context) -> None:
    origin = Origin(model("run"), 8, model("record"), 7)
    begun = msgspec.structs.replace(chain_of(*NAMES[:3]).genesis, continues=(origin,))
    book = Ledger(ctx, model("new run"), begun)
    assert (book.trained, book.rounds, book.next_kind) == (7, 10, "train")


def test_the_end_tells_the_accuracy_that_is_committed_of_the_last_model(
    ctx: Context, chain: Chain, book: Ledger
) -> None:
    book.commit(chain.commit(kind="evaluate", evaluated=evaluations((8, 10), (9, 10)), then="end"))
    book.tell_end()
    (ended,) = told(taken(ctx), events.RunEnded)
    assert (ended.primary_value, ended.rounds, ended.planned, ended.is_trained) == (0.85, 1, 10, True)


def test_an_end_without_a_closing_evaluation_tells_no_accuracy_of_an_earlier_model(
    ctx: Context, chain: Chain, book: Ledger
) -> None:
    book.report(node("ben"), Report(chain.run, 1, evaluation(8, 10, 5.0)))
    book.commit(chain.commit(evaluated=evaluations((8, 10), (9, 10)), then="end"))
    book.tell_end()
    (ended,) = told(taken(ctx), events.RunEnded)
    assert (ended.primary_value, ended.metrics, ended.rounds, ended.planned) == (None, {}, 2, 10)


def test_a_run_whose_model_is_still_the_initial_one_has_trained_nothing(ctx: Context, chain: Chain) -> None:
    book = Ledger(ctx, chain.run, chain.genesis)
    assert not book.is_trained
    origin = Origin(model("run"), 8, model("record"), 7)
    assert Ledger(ctx, model("x"), msgspec.structs.replace(chain.genesis, continues=(origin,))).is_trained


def test_a_report_of_other_metrics_is_ignored_and_its_sender_named(
    ctx: Context, chain: Chain, book: Ledger
) -> None:
    book.report(node("ben"), Report(chain.run, 1, Evaluation(10, {"dice": 8.0})))
    effects = taken(ctx)
    assert book.reports == {}
    assert "a report of ben is ignored" in told(effects, events.Notice)[0].text


def test_the_layout_of_an_update_follows_from_the_schema_the_worker_describes(book: Ledger) -> None:
    assert book.layout("model") == book.genesis.layout
    assert book.layout("update") == layout_of(SCHEMA)
    book.schema = None
    assert book.layout("model") == book.genesis.layout
    with pytest.raises(AssertionError):
        book.layout("update")


# --- rule "Stopping early" --------------------------------------------------------------------------------------

GOOD = evaluations((19, 20), (19, 20), (19, 20))
"""Evaluations with which the run of `stopping` ends."""


@pytest.fixture
def stopping() -> Chain:
    """A run that ends at an accuracy of 0.95 or after two rounds without a better one; it has one round."""
    rule = with_options(SPEC, until=MetricTarget("accuracy", 0.95), patience=2)
    return chain_of(*NAMES[:3], rounds=1, spec=rule)


def test_a_record_that_ends_the_run_early_shows_the_reason(ctx: Context, stopping: Chain) -> None:
    book = ledger(ctx, stopping)
    assert book.succeeds(stopping.commit(kind="evaluate", then="end", evaluated=GOOD).record)
    ended = stopping.commits.pop().record
    unfounded = msgspec.structs.replace(ended, evaluations=evaluations((18, 20), (19, 20), (19, 20)))
    assert not book.succeeds(unfounded)
    assert book.flaw(unfounded) == "it ends the run early, and its evaluations are no reason to"


def test_a_record_that_trains_on_has_no_evaluations_that_end_the_run(ctx: Context, stopping: Chain) -> None:
    book = ledger(ctx, stopping)
    record = stopping.commit(evaluated=GOOD).record
    assert not book.succeeds(record)
    assert book.flaw(record) == "it goes on with the training, although accuracy 0.9500 reached 0.95"
    assert book.succeeds(msgspec.structs.replace(record, evaluations=GOOD[:1]))


def test_the_patience_counts_committed_evaluations_also_after_a_restart(
    ctx: Context, stopping: Chain
) -> None:
    book = ledger(ctx, stopping)
    for right in (10, 9):
        book.commit(stopping.commit(evaluated=evaluations(*(((right, 20)),) * 3)))
    saved = SavedRun(stopping.run, stopping.genesis, book.last, None, resumed=False, history=book.history)
    worse = evaluations((10, 20), (10, 20), (10, 20))
    text = "no better accuracy for 2 rounds (best 0.5000 in round 1)"
    for known in (book, Ledger.restore(ctx, saved)):
        assert known.decide_stopping(worse) == (True, text)


def test_an_extended_run_does_not_end_at_once_by_the_evaluation_that_ended_it(
    ctx: Context, stopping: Chain
) -> None:
    book = ledger(ctx, stopping)
    book.commit(stopping.commit(kind="evaluate", then="end", evaluated=GOOD))
    before = book.is_over
    book.wanted_rounds = SPEC.rounds + 5
    assert (before, book.is_over) == (True, False)
    assert book.next_kind == "train"
    assert book.decide_stopping(GOOD) == (False, "no model is judged")
    book.commit(stopping.commit(evaluated=GOOD))
    assert book.decide_stopping(GOOD)[0] is False, "the target has been reached, and the run was extended"


def test_the_end_of_a_run_that_stopped_early_says_why(ctx: Context, stopping: Chain) -> None:
    book = ledger(ctx, stopping)
    note = "accuracy 0.9500 reached 0.95"
    book.commit(stopping.commit(kind="evaluate", then="end", evaluated=GOOD, note=note))
    taken(ctx)
    book.tell_end()
    (ended,) = told(taken(ctx), events.RunEnded)
    assert (ended.why, ended.primary, ended.primary_value) == (note, "accuracy", 0.95)


# --- state and memory -------------------------------------------------------------------------------------------


def test_the_states_of_the_last_two_records_are_kept_with_their_models(ctx: Context) -> None:
    chain = chain_of(*NAMES[:3], rounds=1, spec=STATEFUL)
    book = ledger(ctx, chain)
    book.commit(chain.commit())
    taken(ctx)
    book.collect(set())
    (effect,) = of_kind(taken(ctx), DeleteUnneededBlobs)
    assert effect.keep == {digest for one in chain.commits for digest in one.record.blobs.digests}


def test_a_record_with_the_same_model_and_another_state_is_not_held(ctx: Context) -> None:
    chain = chain_of(*NAMES[:3], rounds=1, spec=STATEFUL)
    book = ledger(ctx, chain)
    book.commit(chain.commit(model=book.model, state=model("another state")))
    assert not book.holds


def test_a_record_without_updates_follows_only_with_the_blobs_of_the_last_one(ctx: Context) -> None:
    chain = chain_of(*NAMES[:3], rounds=1, spec=STATEFUL)
    book = ledger(ctx, chain)
    empty = msgspec.structs.replace(chain.commit().record, updates=())
    assert not book.succeeds(empty)
    assert not book.succeeds(msgspec.structs.replace(empty, blobs=RecordBlobs(book.model)))
    assert book.succeeds(msgspec.structs.replace(empty, blobs=book.blobs))


def test_the_memory_is_the_last_update_of_this_device_that_a_record_counts(
    ctx: Context, chain: Chain, book: Ledger
) -> None:
    assert book.memory == ""
    book.commit(chain.commit())
    assert book.memory == update("ada", 2).digest
    without = msgspec.structs.replace(chain.commit().record, updates=())
    assert book.memory_after(without) == update("ada", 2).digest
    saved = SavedRun(chain.run, chain.genesis, chain.commits[-1], None, resumed=False, memory=model("mine"))
    assert Ledger.restore(ctx, saved).memory == model("mine")
