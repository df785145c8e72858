from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.core.aggregator import TRANSITIONS, Candidacy
from p2pfl.core.effects import Aggregate, AnyEffect, Fetch, SaveAccepted, SavePromise, SaveSeen, Send
from p2pfl.core.inputs import BlobFailed
from p2pfl.core.options import Policy
from p2pfl.core.stopping import STOPPED
from p2pfl.messages import Accept, Ack, Collect, Prepare, Record, RecordBlobs, Report, StepDown, Undelivered
from p2pfl.spec import MetricTarget, RunSpec, with_options
from p2pfl.work import (
    AggregatedModel,
    AggregationJob,
    NotFinite,
    StrategyFailed,
    UnreadableUpdate,
    WeightedUpdate,
)
from tests.support.aggregator import Bench
from tests.support.core import (
    ballot,
    chain_of,
    link,
    member,
    model,
    of_kind,
    receivers,
    sent,
    status,
    taken,
    told,
    unlink,
)
from tests.support.known import known
from tests.support.records import MEDIAN, NAMES, SPEC, STATEFUL, Chain, evaluation, node, update


@pytest.fixture
def stage() -> Any:
    return Bench()


# --- the table --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "after"), list(itertools.product(Candidacy, Candidacy)))
def test_an_aggregator_moves_along_the_rows_of_its_table_and_nowhere_else(
    stage: Bench, state: Candidacy, after: Candidacy
) -> None:
    stage.it.candidacy = state
    if after in TRANSITIONS[state]:
        stage.it._move(after)
        assert stage.it.candidacy is after
    else:
        with pytest.raises(AssertionError, match=f"from {state.name} to {after.name}"):
            stage.it._move(after)
        assert stage.it.candidacy is state


def test_every_state_has_a_row_and_can_be_left_for_idle() -> None:
    assert set(TRANSITIONS) == set(Candidacy)
    assert all(Candidacy.IDLE in TRANSITIONS[state] for state in Candidacy if state is not Candidacy.IDLE)


# --- running for election ---------------------------------------------------------------------------------------


def test_the_attempt_is_on_disk_before_prepare_leaves(stage: Bench) -> None:
    effects = stage.run_for_election()
    kinds = [type(effect) for effect in effects if isinstance(effect, SavePromise | Send)]
    assert kinds == [SavePromise, Send, Send]
    assert receivers(effects, Prepare) == [node("ben"), node("cleo")]


def test_a_new_ballot_is_above_all_that_were_promised_or_refused_with(stage: Bench) -> None:
    stage.acceptor.promised = ballot(4, "cleo")
    stage.it.refused(ballot(7, "ben"), ballot(1, "ada"))
    stage.run_for_election()
    assert stage.it.ballot == ballot(8, "ada")


def test_a_quorum_of_promises_elects(stage: Bench) -> None:
    stage.run_for_election()
    effects = stage.promise("ben")
    assert [event.votes for event in told(effects, events.Elected)] == [2]
    assert receivers(effects, Collect) == [node("ben"), node("cleo")]
    assert stage.it.candidacy is Candidacy.COLLECTING


def test_a_promise_of_another_ballot_or_journal_or_of_no_member_is_no_vote(stage: Bench) -> None:
    stage.run_for_election()
    stage.promise("ben", of=ballot(9, "ada"))
    stage.promise("ben", journal="ben's new disk")
    stage.promise("eve")
    assert stage.it.candidacy is Candidacy.PREPARING


def test_a_member_alone_elects_itself() -> None:
    alone = Bench(chain_of("ada"), linked=())
    alone.run_for_election()
    assert alone.it.candidacy is Candidacy.COLLECTING


# --- adoption ---------------------------------------------------------------------------------------------------


def values(chain: Chain, *words: str) -> list[Record]:
    """Records that may all follow the last commit of *chain*."""
    records = []
    for word in words:
        records.append(chain.commit(model=model(word)).record)
        chain.commits.pop()
    return records


def test_the_value_of_the_highest_accepted_ballot_is_proposed_again_and_not_an_own_one() -> None:
    stage = Bench(chain_of(*NAMES), linked=NAMES[1:])
    older, newer = values(stage.chain, "older", "newer")
    stage.acceptor.promised = ballot(3, "dan")
    stage.run_for_election()
    stage.promise("ben", ballot(1, "cleo"), older)
    effects = stage.promise("cleo", ballot(2, "dan"), newer)
    assert [fetch.digest for fetch in of_kind(effects, Fetch)] == [newer.model]
    assert stage.it.candidacy is Candidacy.ADOPTING

    effects = stage.pulled(newer.model, durable=True)
    assert {accept.record for accept in sent(effects, Accept)} == {newer}
    assert [event.adopted for event in told(effects, events.Proposed)] == [True]


def test_an_adopted_model_is_proposed_only_when_it_is_durable(stage: Bench) -> None:
    (value,) = values(stage.chain, "accepted")
    stage.run_for_election()
    (fetch,) = of_kind(stage.promise("ben", ballot(1, "ben"), value), Fetch)
    assert fetch.durable
    assert stage.pulled(value.model, durable=False) == []
    assert stage.it.candidacy is Candidacy.ADOPTING
    assert sent(stage.pulled(value.model, durable=True), Accept)


def test_a_value_this_node_accepted_itself_is_adopted_too(stage: Bench) -> None:
    (value,) = values(stage.chain, "mine")
    stage.acceptor.promised = stage.acceptor.accepted_ballot = ballot(1, "ben")
    stage.acceptor.accepted = value
    stage.elect()
    assert stage.it.proposal == value


def test_a_value_that_cannot_be_pulled_is_not_adopted_where_a_quorum_of_others_names_none(
    stage: Bench,
) -> None:
    (value,) = values(stage.chain, "lost")
    stage.run_for_election()
    stage.promise("ben", ballot(1, "ben"), value)
    stage.it.blob_failed(BlobFailed(value.model, "nobody has it", invalid=False))
    assert (stage.it.candidacy, sent(taken(stage.ctx), Prepare)) == (
        Candidacy.PREPARING,
        [stage_prepare(stage)],
    )
    stage.promise("cleo")
    assert stage.it.candidacy is Candidacy.COLLECTING


def test_a_value_that_cannot_be_pulled_is_adopted_all_the_same_where_it_may_be_decided(stage: Bench) -> None:
    (value,) = values(stage.chain, "lost")
    stage.run_for_election()
    stage.promise("ben", ballot(1, "ben"), value)
    stage.it.blob_failed(BlobFailed(value.model, "nobody has it", invalid=False))
    stage.promise("cleo", ballot(1, "ben"), value)
    assert stage.it.candidacy is Candidacy.PREPARING, "two of three have accepted it"


def test_a_candidate_steps_down_when_only_those_answer_whose_value_cannot_be_pulled(stage: Bench) -> None:
    (value,) = values(stage.chain, "lost")
    stage.run_for_election()
    stage.promise("ben", ballot(1, "ben"), value)
    stage.it.blob_failed(BlobFailed(value.model, "nobody has it", invalid=False))
    assert sent(taken(stage.ctx), StepDown) == []
    reasons = {message.reason for message in sent(stage.advance(stage.ctx.settings.resend), StepDown)}
    assert reasons == {"no quorum without a member whose accepted model cannot be pulled: nobody has it"}
    assert stage.it.candidacy is Candidacy.IDLE


def stage_prepare(stage: Any) -> Prepare:
    return Prepare(stage.chain.run, stage.round, stage.it.ballot)


def test_an_adopted_value_that_cannot_be_pulled_gives_the_ballot_up(stage: Bench) -> None:
    (value,) = values(stage.chain, "lost")
    unlink(stage.ctx, "cleo")
    link(stage.ctx, "cleo").declined = stage.ctx.run = stage.chain.run
    stage.run_for_election()
    stage.promise("ben", ballot(1, "ben"), value)
    stage.it.blob_failed(BlobFailed(value.model, "nobody has it", invalid=False))
    effects = taken(stage.ctx)
    assert receivers(effects, StepDown) == [node("ben"), node("cleo")]
    assert sent(effects, Accept) == []
    assert stage.it.candidacy is Candidacy.IDLE


def test_without_the_adoption_rule_an_accepted_value_would_be_ignored(stage: Bench) -> None:
    (value,) = values(stage.chain, "accepted")
    stage.ctx.policy = Policy(adopt=lambda _found: None)
    stage.run_for_election()
    stage.promise("ben", ballot(1, "ben"), value)
    assert stage.it.candidacy is Candidacy.COLLECTING


# --- closing ----------------------------------------------------------------------------------------------------


def test_the_round_closes_when_all_have_answered(stage: Any) -> None:
    stage.elect()
    stage.count("ada", "ben")
    assert of_kind(stage.advance(), Aggregate) == []
    stage.count("cleo")
    (asked,) = of_kind(stage.advance(), Aggregate)
    by_node = sorted(NAMES[:3], key=node)
    assert asked.job == AggregationJob(
        stage.chain.run,
        1,
        stage.it.ballot,
        stage.ledger.spec,
        stage.ledger.model,
        tuple(WeightedUpdate(update(name, 1).digest, 100, 7, 0.5) for name in by_node),
        members=3,
    )


def test_the_updates_are_aggregated_in_one_order_whoever_was_first(stage: Bench) -> None:
    stage.elect()
    stage.count("cleo", "ben", "ada")
    first = of_kind(stage.advance(), Aggregate)[0].job
    other = Bench()
    other.elect()
    other.count("ben", "ada", "cleo")
    assert of_kind(other.advance(), Aggregate)[0].job.updates == first.updates


def test_the_cap_closes_the_round_on_a_member_that_says_nothing(stage: Bench) -> None:
    stage.elect()
    stage.count("ada", "ben")
    assert of_kind(stage.advance(SPEC.participation.round_cap - 0.1), Aggregate) == []
    assert of_kind(stage.advance(0.2), Aggregate)


def test_the_record_names_what_it_was_made_of(stage: Bench) -> None:
    stage.elect()
    stage.count("ada", "ben")
    stage.submit("cleo", announced=False, declined="its training failed: out of memory")
    stage.advance()
    record = sent(stage.aggregate(model("average")), Accept)[0].record
    assert [entry.node for entry in record.updates] == [node("ada"), node("ben")]
    assert [(one.node, one.reason) for one in record.left_out] == [
        (node("cleo"), "its training failed: out of memory")
    ]
    assert (record.model, record.previous, record.trained) == (model("average"), stage.chain.run, 1)


def test_an_average_that_is_not_finite_makes_an_empty_record_with_the_parents_model(stage: Bench) -> None:
    stage.elect()
    stage.count("ada", "ben", "cleo")
    stage.advance()
    record = sent(stage.aggregate(NotFinite()), Accept)[0].record
    assert (record.model, record.updates) == (stage.ledger.model, ())
    assert record.note == (
        "nobody who is here could train, so the run pauses; "
        "the average was not finite: the parent's model stays"
    )
    assert {left.reason for left in record.left_out} == {"the average was not finite"}
    assert record.then == "pause"
    assert {left.reason for left in record.left_out} == {"the average was not finite"}


def test_a_strategy_that_fails_costs_the_round_and_all_are_told_the_place(stage: Bench) -> None:
    stage.elect()
    stage.count("ada", "ben", "cleo")
    stage.advance()
    effects = stage.aggregate(StrategyFailed("mine.py, line 7, in combine(): ValueError: no"))
    why = "the strategy failed: mine.py, line 7, in combine(): ValueError: no"
    assert [notice.text for notice in told(effects, events.Notice)] == [why]
    record = sent(effects, Accept)[0].record
    assert (record.model, record.updates) == (stage.ledger.model, ())
    assert why in record.note
    assert all(why in left.reason for left in record.left_out)


def test_an_update_that_cannot_be_read_is_left_out_with_the_reason_and_the_others_are_aggregated(
    stage: Bench,
) -> None:
    stage.elect()
    stage.count("ada", "ben", "cleo")
    before = of_kind(stage.advance(), Aggregate)[0].job
    effects = stage.aggregate(UnreadableUpdate(update("ben", 1).digest, "it was cut short"))
    reason = "the aggregator could not read its update: it was cut short"
    assert [acked.refused for acked in sent(effects, Ack)] == [reason]
    assert told(effects, events.UpdateRefused) == [events.UpdateRefused(1, "ben", reason)]
    (again,) = of_kind(effects, Aggregate)
    assert len(again.job.updates) == len(before.updates) - 1
    stage.it.aggregated(before, AggregatedModel(model("too late")))
    assert taken(stage.ctx) == []
    record = sent(stage.aggregate(model("average")), Accept)[0].record
    assert {entry.node for entry in record.updates} == {node("ada"), node("cleo")}
    assert [(one.node, one.reason) for one in record.left_out] == [(node("ben"), reason)]


def test_when_no_update_can_be_read_the_record_is_empty_and_says_so(stage: Bench) -> None:
    stage.elect()
    stage.count("ada")
    for name in ("ben", "cleo"):
        stage.submit(name, announced=False, declined="no data")
    stage.advance()
    effects = stage.aggregate(UnreadableUpdate(update("ada", 1).digest, "it was cut short"))
    record = sent(effects, Accept)[0].record
    assert (record.model, record.updates) == (stage.ledger.model, ())
    assert record.note.endswith("no usable update: it was cut short")


def test_without_a_usable_update_the_record_is_empty_and_says_so(stage: Bench) -> None:
    stage.elect()
    for name in NAMES[:3]:
        stage.submit(name, announced=False, declined="no data")
    record = sent(stage.advance(), Accept)[0].record
    assert (record.model, record.updates) == (stage.ledger.model, ())
    why = "nobody who is here could train, so the run pauses"
    assert (record.then, record.note) == ("pause", f"{why}; no usable update: 0 of 1 updates came")


def test_the_closing_round_collects_evaluations_and_ends_the_run() -> None:
    done = with_options(SPEC, rounds=1)
    stage = Bench(chain_of(*NAMES[:3], rounds=1, spec=done))
    stage.elect()
    for name in NAMES[:3]:
        stage.submit(name, announced=False, evaluation=evaluation(9, 10, 1.0))
    record = sent(stage.advance(), Accept)[0].record
    assert (record.kind, record.then, record.model) == ("evaluate", "end", stage.ledger.model)
    assert len(record.evaluations) == 3


ACCURATE = evaluation(19, 20, 1.0)
"""An evaluation with which the runs of `stopping` end early."""


def stopping() -> Bench:
    """An aggregator in a run that ends at an accuracy of 0.95, after its first round."""
    rule = with_options(SPEC, until=MetricTarget("accuracy", 0.95))
    made = Bench(chain_of(*NAMES[:3], rounds=1, spec=rule))
    made.elect()
    return made


def assert_ends_early(stage: Bench, record: Record) -> None:
    assert (record.kind, record.then) == ("evaluate", "end")
    assert record.note.startswith("accuracy 0.9500 reached 0.95")
    assert (record.model, record.trained, record.updates) == (stage.ledger.model, 1, ())
    assert {left.reason for left in record.left_out} == {STOPPED}
    assert len(record.left_out) == 3
    assert stage.ledger.succeeds(record)


def test_a_run_ends_early_without_the_updates_of_the_round() -> None:
    stage = stopping()
    for name in NAMES[:3]:
        stage.submit(name, evaluation=ACCURATE if name != "cleo" else None)
        stage.pulled(update(name, stage.round).digest)
    effects = stage.advance()
    assert of_kind(effects, Aggregate) == []
    assert_ends_early(stage, sent(effects, Accept)[0].record)


def test_a_run_ends_early_as_soon_as_all_have_reported_and_waits_for_no_training() -> None:
    stage = stopping()
    for name in NAMES[:2]:
        stage.ledger.report(node(name), Report(stage.chain.run, 1, ACCURATE))
    assert sent(stage.advance(), Accept) == [], "the evaluation of a member that is here is waited for"
    stage.ledger.report(node("cleo"), Report(stage.chain.run, 1, ACCURATE))
    assert_ends_early(stage, sent(stage.advance(), Accept)[0].record)


@pytest.mark.parametrize("is_leaving", [True, False])
def test_the_evaluation_of_who_is_gone_or_leaves_is_not_waited_for(is_leaving: bool) -> None:
    stage = stopping()
    for name in NAMES[:2]:
        stage.ledger.report(node(name), Report(stage.chain.run, 1, ACCURATE))
    if is_leaving:
        link(stage.ctx, "cleo", status(run=stage.chain.run, round=1, phase="leaving")).hear(
            status(run=stage.chain.run, round=1, phase="leaving"), stage.ctx.now
        )
        effects = stage.advance()
    else:
        unlink(stage.ctx, "cleo")
        effects = stage.advance(stage.ctx.settings.gone + 1)
    assert_ends_early(stage, sent(effects, Accept)[0].record)


def test_a_report_that_comes_while_the_updates_are_aggregated_ends_the_run_as_well() -> None:
    stage = stopping()
    stage.count(*NAMES[:3])
    stage.advance()
    for name in NAMES[:2]:
        stage.ledger.report(node(name), Report(stage.chain.run, 1, ACCURATE))
    assert_ends_early(stage, sent(stage.aggregate(model("average")), Accept)[0].record)


@pytest.mark.parametrize(("control_request", "then"), [("pause", "pause"), ("end", "end")])
def test_a_control_request_is_fulfilled_by_the_record(stage: Any, control_request: Any, then: str) -> None:
    stage.it.requests.add(control_request)
    stage.elect()
    stage.count("ada", "ben", "cleo")
    stage.advance()
    assert sent(stage.aggregate(model("average")), Accept)[0].record.then == then


# --- the lowest ballot ------------------------------------------------------------------------------------------


def lowest(stage: Bench) -> list[AnyEffect]:
    stage.it.run_for_election("first in rank", has_lowest=True)
    return taken(stage.ctx)


def test_the_first_in_rank_collects_without_votes_while_its_own_is_saved(stage: Bench) -> None:
    effects = lowest(stage)
    assert stage.it.ballot == ballot(1, "ada")
    assert stage.it.candidacy is Candidacy.COLLECTING
    assert sent(effects, Prepare) == []
    kinds = [type(effect) for effect in effects if isinstance(effect, SavePromise) or sent([effect], Collect)]
    assert kinds == [Send, Send, SavePromise], "all that comes later waits for the disk"


def test_nobody_else_has_the_lowest_ballot(stage: Bench) -> None:
    effects = stage.run_for_election()
    assert stage.it.ballot == ballot(2, "ada")
    assert receivers(effects, Prepare) == [node("ben"), node("cleo")]


def test_the_lowest_ballot_is_not_resumed_after_a_restart(stage: Bench) -> None:
    stage.acceptor.promised = ballot(1, "ada")
    effects = lowest(stage)
    assert stage.it.ballot == ballot(2, "ada")
    assert len(sent(effects, Prepare)) == 2


def test_the_lowest_ballot_is_of_no_use_once_another_was_promised_or_heard_of(stage: Bench) -> None:
    stage.acceptor.promised = ballot(2, "ben")
    lowest(stage)
    assert stage.it.ballot == ballot(3, "ada")
    other = Bench()
    other.it.refused(ballot(4, "ben"), ballot(1, "ada"))
    assert len(sent(lowest(other), Prepare)) == 2


def test_who_gave_the_lowest_ballot_up_asks_for_votes_the_next_time(stage: Bench) -> None:
    lowest(stage)
    stage.it.give_up("its worker could not aggregate")
    assert len(sent(lowest(stage), Prepare)) == 2
    assert stage.it.ballot == ballot(2, "ada")


# --- proposing --------------------------------------------------------------------------------------------------


def proposing() -> tuple[Bench, list[AnyEffect]]:
    stage = Bench()
    stage.elect()
    stage.count("ada", "ben", "cleo")
    stage.advance()
    return stage, stage.aggregate(model("average"))


def durable(stage: Any) -> list[AnyEffect]:
    """The average is on this node's own disk."""
    stage.acceptor.blob_ready((known(stage.it.proposal).model,))
    return taken(stage.ctx)


def test_everybody_is_asked_before_the_average_is_on_this_nodes_own_disk() -> None:
    _, effects = proposing()
    assert receivers(effects, Accept) == [node("ben"), node("cleo")]
    assert of_kind(effects, SaveAccepted) == []
    assert [fetch.durable for fetch in of_kind(effects, Fetch)] == [True]


def test_its_own_acceptance_counts_once_it_is_saved_and_not_before() -> None:
    stage, _ = proposing()
    stage.accepted("cleo")
    assert stage.committed == []
    assert [type(effect) for effect in durable(stage)] == [SaveAccepted]
    (commit,) = stage.committed
    assert commit.record == stage.it.proposal
    assert commit.ballot == stage.it.ballot
    assert [vote.member for vote in commit.acceptors] == sorted([member("ada"), member("cleo")])


def test_a_quorum_of_others_commits_without_it() -> None:
    stage, _ = proposing()
    stage.accepted("ben")
    stage.accepted("cleo")
    (commit,) = stage.committed
    assert [vote.member for vote in commit.acceptors] == sorted([member("ben"), member("cleo")])


def test_its_own_acceptance_is_asked_for_again_like_any_other() -> None:
    stage, _ = proposing()
    stage.acceptor.blob_failed(BlobFailed(known(stage.it.proposal).model, "its file is gone", invalid=False))
    stage.accepted("ben")
    effects = stage.advance(stage.ctx.settings.resend)
    assert receivers(effects, Accept) == [node("cleo")]
    assert [fetch.digest for fetch in of_kind(effects, Fetch)] == [model("average")]
    durable(stage)
    assert len(stage.committed) == 1


def test_a_candidate_that_promised_a_higher_ballot_meanwhile_does_not_accept_its_own_value() -> None:
    stage, _ = proposing()
    stage.acceptor.prepare(member("cleo"), Prepare(stage.chain.run, stage.round, ballot(5, "cleo")))
    taken(stage.ctx)
    assert of_kind(durable(stage), SaveAccepted) == []
    stage.accepted("ben")
    assert stage.committed == []


def test_acceptances_of_other_ballots_journals_values_or_strangers_do_not_count() -> None:
    stage, _ = proposing()
    durable(stage)
    stage.accepted("ben", of=ballot(9, "ada"))
    stage.accepted("ben", journal="ben's new disk")
    stage.accepted("ben", record=model("another record"))
    stage.accepted("eve")
    assert stage.committed == []


def test_acceptances_of_an_earlier_ballot_are_not_told_as_those_of_a_later_one() -> None:
    stage, _ = proposing()
    stage.accepted("ben")
    value = stage.it.proposal
    stage.it.give_up("its disk is slow")
    taken(stage.ctx)
    stage.ctx.now = stage.it.not_before
    stage.it.run_for_election("first in rank")
    stage.promise("cleo", ballot(1, "ada"), value)
    stage.it.give_up("the model of the record to adopt cannot be pulled")
    saved = of_kind(taken(stage.ctx), SaveSeen)
    assert saved
    assert all(cast.is_valid(stage.ctx.signer.verify) for save in saved for cast in save.casts)


def test_a_higher_promise_while_averaging_gives_the_ballot_up() -> None:
    stage = Bench()
    stage.elect()
    stage.count("ada", "ben", "cleo")
    stage.advance()
    stage.acceptor.promised = ballot(5, "cleo")
    effects = stage.aggregate(model("average"))
    assert sent(effects, Accept) == []
    assert sent(effects, StepDown)


# --- giving up and repeating ------------------------------------------------------------------------------------


def test_a_refused_aggregator_gives_up_tells_and_backs_off_doubling(stage: Any) -> None:
    waits = []
    for _ in range(4):
        stage.run_for_election()
        stage.it.refused(ballot(stage.it.ballot.attempt + 1, "cleo"), stage.it.ballot)
        assert receivers(taken(stage.ctx), StepDown) == [node("ben"), node("cleo")]
        waits.append(stage.it.not_before - stage.ctx.now)
    assert waits == pytest.approx([0.3, 0.6, 1.2, 2.4])
    assert not stage.it.unable


def test_the_refusal_of_an_earlier_ballot_does_not_end_the_present_one(stage: Bench) -> None:
    stage.run_for_election()
    stage.it.refused(ballot(5, "cleo"), ballot(9, "ada"))
    assert stage.it.candidacy is Candidacy.PREPARING


def test_a_node_that_stepped_down_for_a_reason_of_its_own_is_marked_unable(stage: Bench) -> None:
    stage.elect()
    stage.it.give_up("its worker could not aggregate: out of memory")
    assert stage.it.unable


def test_unanswered_messages_are_repeated_and_answered_ones_are_not(stage: Bench) -> None:
    stage.elect()
    stage.submit("ben")
    effects = stage.advance(stage.ctx.settings.resend)
    assert receivers(effects, Collect) == [node("cleo")]


def test_a_newly_linked_member_is_told_what_it_may_have_missed() -> None:
    stage, _ = proposing()
    stage.it.linked(node("ben"))
    assert receivers(taken(stage.ctx), Accept) == [node("ben")]


def test_a_newly_linked_member_hears_of_the_candidacy_also_if_it_has_answered_before_a_restart(
    stage: Bench,
) -> None:
    stage.run_for_election()
    stage.it.linked(node("ben"))
    assert receivers(taken(stage.ctx), Prepare) == [node("ben")]
    stage.promise("ben")
    stage.count("ada", "ben")
    stage.it.linked(node("ben"))
    assert receivers(taken(stage.ctx), Collect) == [node("ben")]
    stage.count("cleo")
    stage.advance()
    assert stage.it.candidacy is Candidacy.AGGREGATING
    stage.it.linked(node("ben"))
    assert receivers(taken(stage.ctx), Collect) == [node("ben")]
    stage.aggregate(model("average"))
    stage.accepted("ben")
    stage.it.linked(node("ben"))
    assert receivers(taken(stage.ctx), Accept) == [node("ben")]


def test_a_member_that_comes_to_the_round_is_told_only_what_it_has_not_answered(stage: Bench) -> None:
    stage.elect()
    stage.count("ben")
    stage.it.arrived(node("ben"))
    stage.it.arrived(node("cleo"))
    assert receivers(taken(stage.ctx), Collect) == [node("cleo")]


def test_a_candidate_that_pulls_the_value_to_adopt_says_so_to_a_newly_linked_member(stage: Bench) -> None:
    (adopted,) = values(stage.chain, "accepted")
    stage.acceptor.promised = ballot(3, "ben")
    stage.run_for_election()
    stage.promise("ben", ballot(1, "ben"), adopted)
    assert stage.it.candidacy is Candidacy.ADOPTING
    stage.it.linked(node("ben"))
    assert receivers(taken(stage.ctx), Prepare) == [node("ben")]


def test_a_node_that_is_no_candidate_sends_nothing_to_a_newly_linked_member(stage: Bench) -> None:
    stage.it.linked(node("ben"))
    assert taken(stage.ctx) == []


def test_what_a_candidacy_works_on_is_pinned() -> None:
    stage, _ = proposing()
    assert stage.it.pinned() == {model("average"), *(update(name, 1).digest for name in NAMES[:3])}


# --- what cannot be delivered -------------------------------------------------------------------------------


def undelivered(stage: Any, name: Any) -> list[AnyEffect]:
    message = Undelivered(stage.chain.run, stage.round, stage.it.ballot, "pi cannot be dialled")
    stage.it.not_delivered(member(name), message)
    return taken(stage.ctx)


def test_a_proposal_is_given_up_when_no_quorum_can_have_its_model() -> None:
    stage, _ = proposing()
    assert sent(undelivered(stage, "ben"), StepDown) == []
    given_up = sent(undelivered(stage, "cleo"), StepDown)
    assert {one.reason for one in given_up} == {
        "its model could not be pulled by ben, cleo: pi cannot be dialled"
    }
    assert stage.it.unable


def test_who_has_accepted_or_is_no_member_does_not_end_a_proposal_by_lacking_its_model() -> None:
    stage, _ = proposing()
    stage.accepted("ben")
    for name in ("ben", "eve", "dan"):
        assert undelivered(stage, name) == []
    assert stage.it.undelivered == {}
    assert stage.it.candidacy is Candidacy.PROPOSING


def test_a_member_that_is_away_accepts_nothing_either() -> None:
    stage, _ = proposing()
    unlink(stage.ctx, "cleo")
    assert sent(undelivered(stage, "ben"), StepDown)


# --- strategies with a state, and with a least number of updates ------------------------------------------------


def stateful(spec: RunSpec = STATEFUL, rounds: int = 1) -> Bench:
    return Bench(chain_of(*NAMES[:3], rounds=rounds, spec=spec))


def test_the_worker_gets_state_and_controls_and_its_state_is_proposed() -> None:
    stage = stateful()
    stage.elect()
    stage.count(*NAMES[:3])
    (asked,) = of_kind(stage.advance(), Aggregate)
    assert asked.job.state == stage.ledger.blobs.state == stage.chain.commits[0].record.blobs.state
    controls = {known(stage.update_of(name)).blobs.control for name in NAMES[:3]}
    assert {one.control for one in asked.job.updates} == controls
    (record, *_) = [
        one.record for one in sent(stage.aggregate(AggregatedModel(model("m"), model("s"))), Accept)
    ]
    assert record.blobs == RecordBlobs(model("m"), model("s"))
    assert stage.it.pinned() >= {model("m"), model("s")}


def test_an_empty_round_keeps_the_state_too() -> None:
    stage = stateful()
    stage.elect()
    stage.count(*NAMES[:3])
    stage.advance()
    record = sent(stage.aggregate(NotFinite()), Accept)[0].record
    assert (record.blobs, record.updates) == (stage.ledger.blobs, ())


def test_a_record_with_the_same_model_and_another_state_is_adopted_by_its_own_blobs() -> None:
    stage = stateful()
    (lost,) = values(stage.chain, "accepted")
    other = msgspec.structs.replace(lost, blobs=RecordBlobs(lost.model, model("other state")))
    stage.run_for_election()
    stage.promise("ben", ballot(1, "ben"), lost)
    companions = (other.blobs.state,)
    stage.it.blob_failed(BlobFailed(other.model, "nobody has it", invalid=False, companions=companions))
    assert stage.it.unusable == {}
    stage.it.blob_failed(
        BlobFailed(lost.model, "nobody has it", invalid=False, companions=(lost.blobs.state,))
    )
    assert list(stage.it.unusable) == [lost.blobs]
    stage.promise("cleo", ballot(1, "ben"), other)
    assert stage.it.proposal == other, "a quorum without a promise that names the lost state"
    assert stage.pulled(other.model, durable=True) == []
    assert sent(stage.pulled(*other.blobs.digests, durable=True), Accept)


def test_too_few_updates_for_the_strategy_keep_the_model_and_each_member_is_told_why() -> None:
    stage = stateful(MEDIAN)
    stage.elect()
    stage.count("ada", "ben")
    stage.submit("cleo", announced=False, declined="it is out of memory")
    record = sent(stage.advance(), Accept)[0].record
    assert (record.blobs, record.updates, record.then) == (stage.ledger.blobs, (), "go")
    assert record.note == "median needs 3 updates, and 2 came"
    reasons = {left.node: left.reason for left in record.left_out}
    assert reasons == {
        node("ada"): record.note,
        node("ben"): record.note,
        node("cleo"): "it is out of memory",
    }


def test_the_run_pauses_when_too_few_updates_come_again_and_again() -> None:
    stage = stateful(MEDIAN)
    stage.ledger.unproductive = 2
    stage.elect()
    stage.count("ada", "ben")
    stage.submit("cleo", announced=False, declined="it is out of memory")
    record = sent(stage.advance(), Accept)[0].record
    assert record.then == "pause"
    assert record.note == (
        "the model stayed for 3 rounds, so the run pauses; median needs 3 updates, and 2 came"
    )


def test_a_strategy_that_needs_more_updates_waits_for_a_member_that_is_away() -> None:
    stage = stateful(MEDIAN)
    stage.elect()
    stage.count("ada", "ben")
    unlink(stage.ctx, "cleo")
    gone = stage.ctx.settings.gone
    warned = told(stage.advance(gone), events.Notice)
    assert [one.text for one in warned] == [
        "2 of the 3 updates that the strategy needs came: the round waits for cleo"
    ]
    assert told(stage.advance(1.0), events.Notice) == [], "it is said once"
    assert stage.it.candidacy is Candidacy.COLLECTING
    assert sent(stage.advance(60.0), Accept)[0].record.updates == ()


def test_an_update_that_cannot_be_read_may_leave_too_few() -> None:
    stage = stateful(MEDIAN)
    stage.elect()
    stage.count(*NAMES[:3])
    stage.advance()
    lost = UnreadableUpdate(stage.update_of("cleo").digest, "it was cut short")
    record = sent(stage.aggregate(lost), Accept)[0].record
    assert (record.updates, record.note) == ((), "median needs 3 updates, and 2 came")
