import msgspec
import pytest

from p2pfl import events
from p2pfl.core.effects import Collect, Exit, Fetch, SaveCommit, SaveReport, SaveResumed
from p2pfl.core.ledger import CONFLICT_EXIT, Ledger, add_evaluations
from p2pfl.core.saved import SavedRun
from p2pfl.messages import Evaluation, Origin, Report
from tests.support.core import chain_of, context, ledger, member, model, of_kind, taken, told
from tests.support.records import NAMES, SPEC, evaluations, node, roster


@pytest.fixture
def ctx():
    return context("ada")


@pytest.fixture
def chain():
    return chain_of(*NAMES[:3], rounds=1)


@pytest.fixture
def book(ctx, chain):
    """The ledger after round 1; the chain can grow on."""
    return ledger(ctx, chain)


def altered(commit, *, acceptors=None, **changes):
    record = msgspec.structs.replace(commit.record, **changes)
    made = msgspec.structs.replace(commit, record=record)
    return made if acceptors is None else msgspec.structs.replace(made, acceptors=acceptors)


# --- what is believed (rule 5) ----------------------------------------------------------------------------------


def test_the_successor_accepted_by_a_quorum_is_believed(book, chain):
    assert book.believe(chain.commit()) is None


def test_a_commit_of_another_run_is_not_believed(book, chain):
    assert book.believe(altered(chain.commit(), run=model("run"))) == "it belongs to another run"


def test_a_commit_out_of_order_is_not_believed(book, chain):
    chain.commit()
    assert book.believe(chain.commit()) == "it is of round 3, not 2"


def test_a_commit_of_another_parent_is_not_believed(book, chain):
    flaw = book.believe(altered(chain.commit(), previous=model("another record")))
    assert flaw == "it follows another record than the one committed here"


def test_a_commit_without_a_quorum_of_my_roster_is_not_believed(book, chain):
    commit = chain.commit()
    few = "1 members of the roster accepted it, 2 are needed"
    assert book.believe(altered(commit, acceptors=(member("ben"),))) == few
    assert book.believe(altered(commit, acceptors=(member("ben"), member("eve")))) == few
    assert book.believe(altered(commit, acceptors=(member("ben"), member("ben")))) == few
    assert book.believe(altered(commit, acceptors=(member("ben"), member("cleo", "new disk")))) == few


def test_the_quorum_is_that_of_the_committed_roster_and_not_of_the_one_it_decides(ctx):
    chain = chain_of(*NAMES)
    commit = chain.commit(next_roster=roster("ada"))
    book = ledger(ctx, chain_of(*NAMES))
    assert book.believe(altered(commit, acceptors=(member("ada"),))) is not None


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
def test_a_record_that_does_not_follow_is_not_accepted_either(book, chain, changes):
    commit = chain.commit()
    assert book.succeeds(commit.record)
    assert not book.succeeds(altered(commit, **changes).record)


# --- two decisions of one round (rule 15) -----------------------------------------------------------------------


def test_a_second_commit_of_the_last_round_halts_with_its_own_exit_code(ctx, chain):
    book = ledger(ctx, chain)
    commit = chain.commit()
    book.commit(commit)
    taken(ctx)
    assert book.conflict(altered(commit, model=model("another")))
    effects = taken(ctx)
    assert [effect.code for effect in of_kind(effects, Exit)] == [CONFLICT_EXIT] == [4]
    (notice,) = told(effects, events.Notice)
    assert notice.level == "error"
    assert "Keep both data directories" in notice.text
    assert book.halted
    assert not book.is_open


def test_a_successor_of_another_last_record_halts_too(book, chain):
    assert book.conflict(altered(chain.commit(), previous=model("the other branch")))


def test_the_same_commit_again_is_no_conflict(ctx, chain, book):
    commit = chain.commit()
    book.commit(commit)
    assert not book.conflict(commit)


def test_a_record_nobody_proved_is_no_conflict(ctx, chain, book):
    commit = chain.commit()
    book.commit(commit)
    unproved = altered(commit, model=model("another"), acceptors=(member("ben"),))
    assert not book.conflict(unproved)
    assert not book.halted


def test_after_a_restart_a_second_commit_of_the_last_round_is_noticed_too(ctx, chain):
    commit = chain.commit()
    saved = SavedRun(
        chain.run,
        chain.founding,
        commit,
        None,
        resumed=False,
        voters=chain.commits[0].record.roster,
        parent=chain.commits[0].record.model,
    )
    book = Ledger.restore(ctx, saved)
    assert book.conflict(altered(commit, model=model("another")))


# --- moving on --------------------------------------------------------------------------------------------------


def test_a_commit_is_saved_first_and_then_told(ctx, chain, book):
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


def test_a_new_model_is_not_held_before_it_is_pulled_and_an_old_one_stays_held(ctx, chain, book):
    book.commit(chain.commit(model=book.model))
    assert book.holds
    book.commit(chain.commit())
    assert not book.holds


def test_who_is_no_longer_in_the_roster_is_no_member(ctx, chain, book):
    book.commit(chain.commit(next_roster=roster("ben", "cleo")))
    assert not book.is_member


def test_the_model_is_asked_of_those_who_accepted_it_first(ctx, chain, book):
    book.commit(chain.commit())
    taken(ctx)
    book.fetch_model()
    (fetch,) = of_kind(taken(ctx), Fetch)
    assert (fetch.digest, fetch.sources) == (book.model, (node("ben"), node("cleo")))


def test_the_last_two_models_and_what_is_pinned_are_kept(ctx, chain, book):
    before = book.model
    book.commit(chain.commit())
    taken(ctx)
    book.collect({model("accepted")})
    assert of_kind(taken(ctx), Collect) == [Collect(frozenset({before, book.model, model("accepted")}))]


def test_after_a_restart_the_last_two_models_are_kept_as_before(ctx, chain):
    commit = chain.commit()
    saved = SavedRun(
        chain.run,
        chain.founding,
        commit,
        None,
        resumed=False,
        voters=chain.founding.roster,
        parent=model("one"),
    )
    Ledger.restore(ctx, saved).collect(set())
    assert of_kind(taken(ctx), Collect) == [Collect(frozenset({model("one"), commit.record.model}))]


def test_a_pause_holds_the_next_round_until_it_is_lifted(ctx, chain, book):
    book.commit(chain.commit(then="pause"))
    assert not book.is_open
    assert not book.resume(1)
    assert book.resume(2)
    assert book.is_open
    assert of_kind(taken(ctx), SaveResumed) == [SaveResumed(chain.run, 2)]
    assert not book.resume(2)


def test_after_the_last_training_round_comes_the_evaluation_and_after_that_the_end(ctx):
    chain = chain_of(*NAMES[:3], rounds=1, spec=msgspec.structs.replace(SPEC, rounds=1))
    book = ledger(ctx, chain)
    assert (book.next_kind, book.is_over) == ("evaluate", False)
    book.commit(chain.commit(kind="evaluate", then="end"))
    assert book.is_over


def test_more_rounds_reopen_a_finished_run(ctx):
    chain = chain_of(*NAMES[:3], rounds=1, spec=msgspec.structs.replace(SPEC, rounds=1))
    book = ledger(ctx, chain)
    book.commit(chain.commit(kind="evaluate", then="end"))
    book.wanted_rounds = 3
    assert (book.is_over, book.is_open, book.next_kind) == (False, True, "train")


# --- evaluations ------------------------------------------------------------------------------------------------


def test_reports_add_up_over_the_members(ctx, chain, book):
    book.report(node("ben"), Report(chain.run, 1, Evaluation(8, 10, 5.0)))
    book.report(node("cleo"), Report(chain.run, 1, Evaluation(9, 10, 1.0)))
    effects = taken(ctx)
    last = told(effects, events.Evaluated)[-1]
    assert (last.accuracy, last.loss, last.samples, last.reports, last.members) == (0.85, 0.3, 20, 2, 3)
    assert [save.node for save in of_kind(effects, SaveReport)] == [node("ben"), node("cleo")]


def test_reports_of_other_rounds_strangers_and_repetitions_are_ignored(ctx, chain, book):
    report = Report(chain.run, 1, Evaluation(8, 10, 5.0))
    book.report(node("ben"), report)
    taken(ctx)
    book.report(node("ben"), report)
    book.report(node("eve"), report)
    book.report(node("cleo"), msgspec.structs.replace(report, round=2))
    book.report(node("cleo"), msgspec.structs.replace(report, run=model("run")))
    assert taken(ctx) == []


def test_committed_evaluations_are_told_where_reports_had_said_something_else(ctx, chain, book):
    book.report(node("ada"), Report(chain.run, 1, Evaluation(1, 10, 5.0)))
    taken(ctx)
    book.commit(chain.commit(evaluated=evaluations((8, 10), (10, 10))))
    (event,) = told(taken(ctx), events.Evaluated)
    assert (event.round, event.accuracy, event.reports) == (1, 0.9, 2)


def test_an_accuracy_that_not_all_reported_is_told_again_when_it_is_committed(ctx, chain, book):
    for entry in evaluations((8, 10), (10, 10)):
        book.report(entry.node, Report(chain.run, 1, entry.evaluation))
    (_, both) = told(taken(ctx), events.Evaluated)
    assert (both.reports, both.members, both.committed) == (2, 3, False)
    book.commit(chain.commit(evaluated=evaluations((8, 10), (10, 10))))
    (event,) = told(taken(ctx), events.Evaluated)
    assert (event.accuracy, event.reports, event.members, event.committed) == (0.9, 2, 3, True)


def test_an_accuracy_all_reported_is_not_told_again_when_it_is_committed(ctx, chain, book):
    three = evaluations((8, 10), (10, 10), (9, 10))
    for entry in three:
        book.report(entry.node, Report(chain.run, 1, entry.evaluation))
    taken(ctx)
    book.commit(chain.commit(evaluated=three))
    (event,) = told(taken(ctx), events.Evaluated)
    assert (event.committed, event.is_news, event.reported) == (True, False, None)


def test_another_accuracy_than_all_reported_is_told_with_the_one_reported(ctx, chain, book):
    three = evaluations((8, 10), (10, 10), (9, 10))
    for entry in three:
        book.report(entry.node, Report(chain.run, 1, entry.evaluation))
    taken(ctx)
    book.commit(chain.commit(evaluated=three[:2]))
    (event,) = told(taken(ctx), events.Evaluated)
    assert (event.accuracy, event.reports, event.members) == (0.9, 2, 3)
    assert (event.committed, event.is_news, event.reported) == (True, True, 0.9)


def test_a_round_that_was_missed_has_no_time_and_is_no_news(ctx, chain, book):
    ctx.now += 50.0
    book.commit(chain.commit(evaluated=evaluations((8, 10), (10, 10), (9, 10))), is_late=True)
    effects = taken(ctx)
    (committed,) = told(effects, events.Committed)
    (evaluated,) = told(effects, events.Evaluated)
    assert (committed.seconds, committed.is_late, evaluated.is_news) == (0.0, True, False)
    ctx.now += 5.0
    book.commit(chain.commit())
    (first,) = told(taken(ctx), events.Committed)
    assert (first.seconds, first.is_late) == (0.0, False), "when that round began is not known here"
    ctx.now += 5.0
    book.commit(chain.commit())
    (second,) = told(taken(ctx), events.Committed)
    assert second.seconds == 5.0


def test_a_run_that_continues_another_counts_its_rounds_on(ctx):
    origin = Origin(model("run"), 8, model("record"), 7)
    begun = msgspec.structs.replace(chain_of(*NAMES[:3]).founding, continues=(origin,))
    book = Ledger(ctx, model("new run"), begun)
    assert (book.trained, book.rounds, book.next_kind) == (7, 10, "train")


def test_the_end_tells_the_accuracy_that_is_committed_of_the_last_model(ctx, chain, book):
    book.commit(chain.commit(kind="evaluate", evaluated=evaluations((8, 10), (9, 10)), then="end"))
    book.tell_end()
    (ended,) = told(taken(ctx), events.RunEnded)
    assert (ended.accuracy, ended.rounds, ended.planned, ended.is_trained) == (0.85, 1, 10, True)


def test_an_end_without_a_closing_evaluation_tells_no_accuracy_of_an_earlier_model(ctx, chain, book):
    book.report(node("ben"), Report(chain.run, 1, Evaluation(8, 10, 5.0)))
    book.commit(chain.commit(evaluated=evaluations((8, 10), (9, 10)), then="end"))
    book.tell_end()
    (ended,) = told(taken(ctx), events.RunEnded)
    assert (ended.accuracy, ended.loss, ended.rounds, ended.planned) == (None, None, 2, 10)


def test_a_run_whose_model_is_still_the_initial_one_has_trained_nothing(ctx, chain):
    book = Ledger(ctx, chain.run, chain.founding)
    assert not book.is_trained
    origin = Origin(model("run"), 8, model("record"), 7)
    assert Ledger(ctx, model("x"), msgspec.structs.replace(chain.founding, continues=(origin,))).is_trained


def test_evaluations_are_summed_field_by_field():
    parts = (Evaluation(8, 10, 5.0), Evaluation(1, 4, 2.5))
    assert add_evaluations(parts) == Evaluation(9, 14, 7.5)
