"""What the open round's parts do together; single steps are tested with each part, whole rounds in `tests/sim`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.aggregator import Candidacy
from p2pfl.core.control import ENDED_NOW
from p2pfl.core.effects import (
    Aggregate,
    DeleteUnneededBlobs,
    Evaluate,
    Exit,
    Fetch,
    SaveCommit,
    SaveSeen,
    Send,
    StopTraining,
    Train,
    can_wait,
)
from p2pfl.core.inputs import WorkFailed
from p2pfl.core.options import MAX_ATTEMPT_GAP
from p2pfl.core.running import LOST_BLOB_TRIES, MODEL_TRIES
from p2pfl.core.saved import Vote
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import (
    MAX_ATTEMPT,
    Accept,
    Ack,
    Collect,
    ControlRequest,
    Prepare,
    Promise,
    Record,
    RecordBlobs,
    RecordsRequest,
    Refuse,
    StepDown,
    Submit,
    record_digest,
)
from p2pfl.proofs import CastVote, sign_request
from p2pfl.work import AggregationJob
from tests.support.core import (
    ballot,
    chain_of,
    member,
    model,
    of_kind,
    receivers,
    sent,
    status,
    taken,
    told,
    trained,
    training,
    unlink,
)
from tests.support.keys import signer
from tests.support.records import NAMES, SPEC, STATEFUL, node, resigned, result_with, roster, signed, update
from tests.support.running import Bench


def request_of(run: Any, round_: Any, what: Any, by: Any, at: Any = "ada") -> Any:
    """The request of operator *by* at device *at*."""
    return sign_request(signer(at), node(at), run, round_, what, by)


@pytest.fixture
def bench() -> Any:
    return Bench()


def test_training_begins_with_the_round(bench: Bench) -> None:
    assert [train.job.round for train in of_kind(bench.began, Train)] == [2]


def test_a_commit_ends_the_training_and_opens_the_next_round(bench: Bench) -> None:
    effects = bench.learn(bench.chain.commit())
    assert of_kind(effects, StopTraining)
    assert of_kind(effects, Fetch)[-1].digest == bench.ledger.model
    assert bench.it.acceptor.round == 3


def test_an_accepted_record_that_commits_needs_no_pull(bench: Bench) -> None:
    commit = bench.chain.commit()
    bench.hear("ben", Accept(bench.chain.run, 2, ballot(5, "ben"), commit.record))
    bench.it.blob_ready(inputs.BlobReady(commit.record.model, durable=True))
    taken(bench.ctx)
    assert of_kind(bench.learn(commit), Fetch) == []
    assert bench.ledger.holds


def test_blobs_are_let_go_of_once_after_a_commit_and_not_before_all_else_is_done(bench: Bench) -> None:
    bench.it.tidy(lambda: {model("elsewhere")})
    taken(bench.ctx)
    bench.learn(bench.chain.commit())
    bench.it.blob_ready(inputs.BlobReady(bench.ledger.model, durable=True))
    assert of_kind(taken(bench.ctx), DeleteUnneededBlobs) == []
    bench.it.tidy(lambda: {model("elsewhere")})
    bench.it.tidy(lambda: {model("elsewhere")})
    (collect,) = taken(bench.ctx)
    assert isinstance(collect, DeleteUnneededBlobs)
    assert bench.ledger.model in collect.keep


def test_a_candidate_that_overtook_the_commit_has_its_promise_once_the_commit_is_here(bench: Bench) -> None:
    stands = ballot(5, "cleo")
    assert bench.hear("cleo", Prepare(bench.chain.run, 3, stands)) == []
    effects = [*bench.learn(bench.chain.commit()), *bench.advance()]
    assert [promise.ballot for promise in sent(effects, Promise)] == [stands]
    assert sent(effects, RecordsRequest) == []


def test_everybody_hears_of_a_commit_before_the_next_round_is_begun(bench: Bench) -> None:
    commit = bench.chain.commit()
    bench.it.commit(commit)
    kinds = [effect.message if isinstance(effect, Send) else effect for effect in taken(bench.ctx)]
    assert kinds.index(commit) < next(place for place, one in enumerate(kinds) if isinstance(one, Fetch))


def test_a_forged_commit_is_ignored_its_sender_is_named_and_the_node_goes_on(bench: Bench) -> None:
    commit = bench.chain.commit()
    bench.learn(commit)
    copied = msgspec.structs.replace(
        commit, record=msgspec.structs.replace(commit.record, blobs=RecordBlobs(model("another")))
    )
    for forged in (copied, msgspec.structs.replace(copied, ballot=ballot(7, "ben"))):
        effects = bench.learn(forged)
        assert of_kind(effects, Exit) == []
        assert of_kind(effects, SaveCommit) == []
    assert bench.ledger.is_open
    assert bench.ledger.digest == record_digest(commit.record)


def test_a_forged_commit_is_complained_of_once_a_minute(bench: Bench) -> None:
    bench.learn(bench.chain.commit())
    forged = msgspec.structs.replace(bench.chain.commits[-1])
    forged = msgspec.structs.replace(forged, record=msgspec.structs.replace(forged.record, note="another"))
    texts = [notice.text for notice in told(bench.learn(forged, forged), events.Notice)]
    assert len(texts) == 1
    assert texts[0].startswith("ben sent a commit of record 2 that contradicts what is committed here")
    assert told(bench.learn(forged), events.Notice) == []
    bench.ctx.now += 61.0
    assert len(told(bench.learn(forged), events.Notice)) == 1


def test_refusals_move_a_candidate_by_a_bounded_step_and_strangers_not_at_all(bench: Any) -> None:
    it = bench.it.aggregator
    it.run_for_election("first in rank")
    refuse = Refuse(bench.chain.run, 2, it.ballot, ballot(MAX_ATTEMPT, "ben"))
    bench.hear("eve", refuse)
    states, before = [it.candidacy], it.highest_known
    bench.hear("ben", refuse)
    states.append(it.candidacy)
    assert states == [Candidacy.PREPARING, Candidacy.IDLE]
    assert it.highest_seen == before + MAX_ATTEMPT_GAP


def test_a_candidacy_goes_on_by_votes_that_are_remembered_on_disk(bench: Any) -> None:
    bench.it.aggregator.run_for_election("first in rank")
    mine = bench.it.aggregator.ballot
    taken(bench.ctx)
    vote = signed("ben", bench.chain.run, 2, mine, votes=3)
    effects = bench.hear("ben", Promise(bench.chain.run, 2, mine, None, None, vote))
    (save,) = of_kind(effects, SaveSeen)
    assert save == SaveSeen((CastVote(bench.chain.run, 2, mine, "", vote),), at_once=True)
    assert not can_wait(save)
    assert effects.index(save) < min(at for at, effect in enumerate(effects) if isinstance(effect, Send))


def test_a_restored_node_that_learns_of_its_own_vote_stops(bench: Bench) -> None:
    effects = bench.learn(resigned(bench.chain.commit(), votes=1))
    assert [effect.code for effect in of_kind(effects, Exit)] == [ExitCode.CLONED]
    assert of_kind(effects, SaveCommit) == []
    assert bench.ledger.round == 1


def test_acceptances_that_are_not_proven_are_not_kept_with_a_commit(bench: Bench) -> None:
    commit = bench.chain.commit()
    junk = signed("cleo", bench.chain.run, 2, commit.ballot, model("another"), votes=2**53)
    padded = msgspec.structs.replace(commit, acceptors=(*commit.acceptors, junk))
    (save,) = of_kind(bench.learn(padded), SaveCommit)
    assert save.commit == commit
    assert member("cleo") not in bench.ctx.seen


def test_a_higher_ballot_ends_this_nodes_own_candidacy(bench: Any) -> None:
    bench.it.aggregator.run_for_election("first in rank")
    mine = bench.it.aggregator.ballot
    taken(bench.ctx)
    effects = bench.hear("ben", Prepare(bench.chain.run, 2, ballot(mine.attempt + 1, "ben")))
    assert sent(effects, StepDown)
    assert bench.it.aggregator.candidacy is Candidacy.IDLE


def test_a_candidate_that_steps_down_loses_its_leader_lease_and_is_reported(bench: Bench) -> None:
    bench.hear("ben", Prepare(bench.chain.run, 2, ballot(3, "ben")))
    given_up = StepDown(bench.chain.run, 2, ballot(3, "ben"), "its worker could not aggregate")
    (event,) = told(bench.hear("ben", given_up), events.SteppedDown)
    assert (event.aggregator, event.reason) == ("ben", "its worker could not aggregate")
    assert not bench.it.acceptor.lease


def test_a_halted_node_answers_nothing(bench: Bench) -> None:
    bench.ledger.halted = True
    assert bench.hear("ben", Prepare(bench.chain.run, 2, ballot(9, "ben"))) == []


def test_ones_own_training_is_cut_at_the_cap_when_one_aggregates(bench: Any) -> None:
    bench.it.aggregator.run_for_election("first in rank")
    bench.it.aggregator.promise(member("ben"), bench.it.acceptor._promise_message(bench.it.aggregator.ballot))
    assert bench.it.aggregator.candidacy is Candidacy.COLLECTING
    taken(bench.ctx)
    assert of_kind(bench.advance(SPEC.participation.round_cap - 1), StopTraining) == []
    assert of_kind(bench.advance(2.0), StopTraining)


# --- blobs ------------------------------------------------------------------------------------------------------


def test_a_model_that_a_power_cut_would_take_is_neither_accepted_nor_held(bench: Bench) -> None:
    commit = bench.chain.commit()
    unflushed = inputs.BlobReady(commit.record.model, durable=False)
    bench.hear("ben", Accept(bench.chain.run, 2, ballot(5, "ben"), commit.record))
    bench.it.blob_ready(unflushed)
    assert taken(bench.ctx) == []
    bench.learn(commit)
    bench.it.blob_ready(unflushed)
    assert not bench.ledger.holds
    bench.it.blob_ready(msgspec.structs.replace(unflushed, durable=True))
    assert bench.ledger.holds


def test_a_model_that_cannot_be_had_now_is_asked_for_again(bench: Bench) -> None:
    bench.learn(bench.chain.commit())
    bench.it.blob_failed(inputs.BlobFailed(bench.ledger.model, "nobody has it", invalid=False))
    assert of_kind(bench.advance(), Fetch) == []
    assert of_kind(bench.advance(bench.ctx.settings.resend), Fetch)


def accepted_before(bench: Bench) -> tuple[Bench, Record]:
    record = bench.proposal()
    return Bench(vote=Vote(2, ballot(1, "ben"), ballot(1, "ben"), record)), record


def test_a_model_found_damaged_on_disk_is_pulled_again_and_its_work_begins_anew(bench: Bench) -> None:
    [training], [evaluation] = of_kind(bench.began, Train), of_kind(bench.began, Evaluate)
    bench.it.blob_failed(inputs.BlobFailed(bench.ledger.model, "it is damaged", invalid=False, is_lost=True))
    assert of_kind(taken(bench.ctx), StopTraining)
    assert not bench.ledger.holds
    assert not bench.it.local_trainer.declined
    again = bench.advance(bench.ctx.settings.resend)
    assert [fetch.digest for fetch in of_kind(again, Fetch)] == [bench.ledger.model]
    bench.it.blob_ready(inputs.BlobReady(bench.ledger.model, durable=True))
    effects = taken(bench.ctx)
    assert of_kind(effects, Train) == [training]
    assert of_kind(effects, Evaluate) == [evaluation]


def test_a_restart_looks_for_the_blob_of_the_value_it_accepted(bench: Bench) -> None:
    again, record = accepted_before(bench)
    assert record.model in {fetch.digest for fetch in of_kind(again.began, Fetch)}


def test_who_can_neither_read_nor_pull_what_it_accepted_counts_its_disk_as_lost(bench: Bench) -> None:
    again, record = accepted_before(bench)
    failed = inputs.BlobFailed(record.model, "nobody has it", invalid=False)
    for _ in range(LOST_BLOB_TRIES - 1):
        again.it.blob_failed(failed)
    assert of_kind(taken(again.ctx), Exit) == []
    again.it.blob_failed(failed)
    (end,) = of_kind(taken(again.ctx), Exit)
    assert end.code == ExitCode.LOST_MODEL
    assert "--new-journal" in end.reason


def test_the_model_that_was_accepted_is_pulled_again_after_a_while_as_long_as_its_record_is_open(
    bench: Bench,
) -> None:
    again, record = accepted_before(bench)
    again.it.blob_failed(inputs.BlobFailed(record.model, "nobody has it", invalid=False))
    assert [fetch.digest for fetch in of_kind(again.advance(again.ctx.settings.resend), Fetch)] == [
        record.model
    ]
    again.it.blob_failed(inputs.BlobFailed(record.model, "nobody has it", invalid=False))
    again.learn(again.chain.commit(model=again.ledger.model))  # a record without updates keeps the last model
    assert again.ledger.holds
    assert of_kind(again.advance(again.ctx.settings.resend), Fetch) == []


def test_while_nobody_can_be_asked_the_disk_is_not_lost(bench: Bench) -> None:
    again, record = accepted_before(bench)
    for name in ("ben", "cleo"):
        unlink(again.ctx, name)
    for _ in range(2 * LOST_BLOB_TRIES):
        again.it.blob_failed(inputs.BlobFailed(record.model, "nobody has it", invalid=False))
    assert of_kind(taken(again.ctx), Exit) == []


# --- the worker -------------------------------------------------------------------------------------------------


def test_a_failed_training_is_declined_with_the_reason(bench: Bench) -> None:
    bench.hear("ben", Collect(bench.chain.run, 2, ballot(3, "ben"), selected=True))
    bench.it.work_failed(
        inputs.WorkFailed(Train(training(bench.chain, 2, bench.ledger.model)), "out of memory")
    )
    effects = taken(bench.ctx)
    assert [s.declined for s in sent(effects, Submit)] == ["its training failed: out of memory"]


def test_a_failed_evaluation_is_told_and_not_waited_for(bench: Bench) -> None:
    (evaluate,) = of_kind(bench.began, Evaluate)
    bench.it.work_failed(inputs.WorkFailed(evaluate, "out of memory"))
    (notice,) = told(taken(bench.ctx), events.Notice)
    assert notice.text == "the worker could not evaluate: out of memory"
    assert bench.it.local_trainer.evaluation_failed


def test_a_failed_job_of_an_earlier_round_with_the_same_model_declines_nothing(bench: Bench) -> None:
    (evaluate,) = of_kind(bench.began, Evaluate)
    earlier = Evaluate(msgspec.structs.replace(evaluate.job, round=0))
    for effect in (Train(training(bench.chain, 1, bench.ledger.model)), earlier):
        bench.it.work_failed(inputs.WorkFailed(effect, "out of memory"))
    assert not bench.it.local_trainer.declined
    assert not bench.it.local_trainer.evaluation_failed


def failed_aggregation(bench: Any) -> WorkFailed:
    run, mine = bench.chain.run, bench.it.aggregator.ballot
    job = AggregationJob(run, 2, mine, bench.ledger.spec, bench.ledger.model, ())
    return inputs.WorkFailed(Aggregate(job), "out of memory")


def test_a_failed_average_gives_the_ballot_up(bench: Bench) -> None:
    bench.it.aggregator.run_for_election("first in rank")
    taken(bench.ctx)
    bench.it.work_failed(failed_aggregation(bench))
    assert receivers(taken(bench.ctx), StepDown) == [node("ben"), node("cleo")]
    assert bench.it.aggregator.unable


def test_a_failed_average_of_a_ballot_that_was_given_up_is_nobodys_concern(bench: Bench) -> None:
    bench.it.aggregator.run_for_election("first in rank")
    failed = failed_aggregation(bench)
    bench.it.work_failed(failed)
    taken(bench.ctx)
    bench.it.work_failed(failed)
    assert taken(bench.ctx) == []


def test_a_training_of_an_older_round_is_of_no_use(bench: Bench) -> None:
    bench.it.trained(trained(bench.chain, 1, model("old"), update("ada", 1).digest))
    assert bench.it.local_trainer.update is None


# --- control requests -------------------------------------------------------------------------------------------


def test_a_control_request_is_passed_on_once(bench: Bench) -> None:
    control_request = request_of(bench.chain.run, 1, "pause", "ada")
    bench.it.control_request(control_request, node("ben"))
    bench.it.control_request(control_request, node("ben"))
    assert receivers(taken(bench.ctx), ControlRequest) == [node("ben"), node("cleo")]


def test_a_control_request_of_another_run_is_ignored(bench: Bench) -> None:
    bench.it.control_request(request_of(model("run"), 1, "end", "ada"), node("ben"))
    assert taken(bench.ctx) == []
    assert bench.it.requests.open == {}


def test_a_control_request_that_a_record_has_fulfilled_is_void(bench: Bench) -> None:
    bench.it.control_request(request_of(bench.chain.run, 1, "pause", "ada"), node("ben"))
    bench.learn(bench.chain.commit(then="pause"))
    bench.it.control_request(request_of(bench.chain.run, 2, "resume", "ada"), node("ben"))
    taken(bench.ctx)
    bench.it.control_request(request_of(bench.chain.run, 1, "pause", "ada"), node("ben"))
    assert taken(bench.ctx) == []
    bench.it.control_request(request_of(bench.chain.run, 2, "pause", "ada"), node("ben"))
    assert sent(taken(bench.ctx), ControlRequest)


def test_a_control_request_is_reported_with_its_author_and_sent_to_peers_that_link_later(
    bench: Bench,
) -> None:
    control_request = request_of(bench.chain.run, 1, "pause", "eve (operator)")
    bench.it.control_request(control_request, node("ben"))
    assert told(taken(bench.ctx), events.ControlRequested) == [
        events.ControlRequested("pause", "eve (operator) at ada")
    ]
    bench.it.linked(node("ben"))
    assert Send(node("ben"), control_request) in taken(bench.ctx)


def test_a_control_request_of_a_node_that_is_no_member_is_ignored_and_its_sender_is_named(
    bench: Bench,
) -> None:
    for what in ("pause", "end", "end-now"):
        bench.it.control_request(request_of(bench.chain.run, 1, what, "eve", at="eve"), node("ben"))
    effects = taken(bench.ctx)
    assert (told(effects, events.ControlRequested), sent(effects, ControlRequest)) == ([], [])
    (notice,) = told(effects, events.Notice)
    assert notice.text.startswith("ben passed on a request (pause) from a node that is no member")


def test_a_control_request_in_the_name_of_a_member_that_has_not_signed_it_is_ignored(bench: Bench) -> None:
    control_request = request_of(bench.chain.run, 1, "pause", "eve", at="ada")
    for forged in (
        msgspec.structs.replace(control_request, what="end"),
        msgspec.structs.replace(control_request, node=node("cleo")),
        msgspec.structs.replace(control_request, by="somebody else"),
        msgspec.structs.replace(request_of(bench.chain.run, 1, "pause", "eve", at="eve"), node=node("ada")),
    ):
        bench.it.control_request(forged, node("ben"))
    effects = taken(bench.ctx)
    assert (told(effects, events.ControlRequested), sent(effects, ControlRequest)) == ([], [])
    (notice,) = told(effects, events.Notice)
    assert notice.text.startswith("ben passed on a request (end) in the name of ada, which has not signed it")


def test_a_pause_is_not_lifted_by_what_a_stranger_says_of_itself(bench: Bench) -> None:
    bench.learn(bench.chain.commit(then="pause"))
    bench.it.resume(2, member("eve"))
    bench.it.resume(2, member("ben", "another disk"))
    assert bench.ledger.is_paused
    bench.it.resume(2, member("ben"))
    assert told(taken(bench.ctx), events.Resumed) == [events.Resumed(2, "ben")]


def test_a_device_that_is_no_member_does_not_steer(bench: Bench) -> None:
    bench.learn(bench.chain.commit(next_roster=roster("ben", "cleo")))
    assert bench.it.requests.objection("pause") == (
        "this device is no member of the run (yet): ask at one that is"
    )


def test_a_resumed_run_is_told_of_once(bench: Bench) -> None:
    bench.learn(bench.chain.commit(then="pause"))
    for _ in range(2):
        bench.it.control_request(request_of(bench.chain.run, 2, "resume", "eve"), node("ben"))
    assert told(taken(bench.ctx), events.Resumed) == [events.Resumed(2, "eve at ada")]


def test_when_the_run_is_to_end_now_nobody_trains_for_the_last_round(bench: Bench) -> None:
    bench.hear("ben", Collect(bench.chain.run, 2, ballot(3, "ben"), selected=True))
    bench.it.control_request(request_of(bench.chain.run, 1, "end-now", "ada"), node("ben"))
    effects = taken(bench.ctx)
    assert of_kind(effects, StopTraining)
    assert [submit.declined for submit in sent(effects, Submit)] == [ENDED_NOW]


def test_a_round_opened_while_the_run_is_to_end_now_trains_nothing(bench: Bench) -> None:
    bench.it.control_request(request_of(bench.chain.run, 2, "end-now", "ada"), node("ben"))
    taken(bench.ctx)
    bench.learn(bench.chain.commit())
    bench.it.blob_ready(inputs.BlobReady(bench.ledger.model, durable=True))
    assert of_kind(taken(bench.ctx), Train) == []
    assert bench.it.local_trainer.declined == ENDED_NOW


@pytest.mark.parametrize("what", ["pause", "end", "end-now"])
def test_a_first_control_request_meets_no_objection_and_a_second_one_is_not_needed(
    bench: Any, what: Any
) -> None:
    assert bench.it.requests.objection(what) == ""
    bench.it.control_request(request_of(bench.chain.run, 1, what, "ada (operator)"), node("ben"))
    assert "ada (operator)" in bench.it.requests.objection(what)


def test_only_a_paused_run_can_be_resumed(bench: Bench) -> None:
    assert "not paused" in bench.it.requests.objection("resume")
    bench.it.control_request(request_of(bench.chain.run, 1, "pause", "ada"), node("ben"))
    assert "pauses with the next commit" in bench.it.requests.objection("resume")
    bench.learn(bench.chain.commit(then="pause"))
    assert bench.it.requests.objection("resume") == ""
    assert "paused after round 2 already" in bench.it.requests.objection("pause")
    assert bench.it.requests.objection("end") == ""


def test_of_a_finished_run_nothing_is_wanted_any_more(bench: Bench) -> None:
    bench.learn(bench.chain.commit(then="end"))
    assert {bench.it.requests.objection(what) for what in ("pause", "resume", "end", "end-now")} == {
        "the run is over"
    }


def test_who_leaves_stops_training_and_declines(bench: Bench) -> None:
    bench.hear("ben", Collect(bench.chain.run, 2, ballot(3, "ben"), selected=True))
    bench.it.leave()
    effects = taken(bench.ctx)
    assert of_kind(effects, StopTraining)
    assert [submit.declined for submit in sent(effects, Submit)] == ["it is leaving"]
    assert sent(bench.hear("ben", Ack(bench.chain.run, 2, ballot(3, "ben"), "")), Submit) == []


def test_a_request_to_end_lifts_a_pause_and_a_request_to_pause_does_not(bench: Bench) -> None:
    bench.learn(bench.chain.commit(then="pause"))
    for what, is_paused in (("pause", True), ("end", False)):
        bench.it.control_request(request_of(bench.chain.run, 2, what, "ada"), node("ben"))
        assert bench.ledger.is_paused == is_paused
    assert set(bench.it.requests.open) == {"end"}
    effects = taken(bench.ctx)
    assert {control_request.what for control_request in sent(effects, ControlRequest)} == {"end"}


def test_commits_that_were_missed_are_told_in_one_line() -> None:
    bench = Bench()
    missed = [bench.chain.commit() for _ in range(3)]
    effects = bench.learn(*missed)
    assert [event.is_late for event in told(effects, events.Committed)] == [True] * 3
    assert told(effects, events.CaughtUp) == [events.CaughtUp(2, 4, SPEC.rounds, "ben")]


def test_a_commit_that_comes_when_it_is_made_was_not_missed() -> None:
    bench = Bench()
    effects = bench.learn(bench.chain.commit())
    assert [event.is_late for event in told(effects, events.Committed)] == [False]
    assert told(effects, events.CaughtUp) == []


def test_catching_up_in_parts_is_told_once_it_is_done() -> None:
    bench = Bench()
    first, second, third = [bench.chain.commit() for _ in range(3)]
    bench.ctx.peers[node("ben")].status = status(run=bench.chain.run, round=4)
    assert told(bench.learn(first, second), events.CaughtUp) == []
    effects = bench.learn(third)
    assert told(effects, events.CaughtUp) == [events.CaughtUp(2, 4, SPEC.rounds, "ben")]


def test_a_member_that_cannot_have_the_last_model_declines_and_goes_on_trying(bench: Bench) -> None:
    bench.ledger.holds = False
    bench.hear("ben", Collect(bench.chain.run, 2, ballot(2, "ben"), True))
    answers = []
    for _ in range(MODEL_TRIES):
        bench.it.blob_failed(inputs.BlobFailed(bench.ledger.model, "nobody has it", invalid=False))
        answers += sent(taken(bench.ctx), Submit)
        assert of_kind(bench.advance(1.0), Fetch)
    assert [answer.declined for answer in answers] == ["it cannot have the last model: nobody has it"]


def test_a_member_that_cannot_have_the_final_model_keeps_nobody_waiting_for_its_evaluation() -> None:
    bench = Bench()
    while bench.ledger.next_kind == "train":
        bench.learn(bench.chain.commit())
    bench.ledger.holds, round_ = False, bench.ledger.round + 1
    bench.hear("ben", Collect(bench.chain.run, round_, ballot(2, "ben"), False))
    failed = inputs.BlobFailed(bench.ledger.model, "nobody has it", invalid=False)
    answers = []
    for _ in range(MODEL_TRIES + 1):
        bench.it.blob_failed(failed)
        answers += sent(taken(bench.ctx), Submit)
        bench.ctx.now += 0.1
    assert [(one.update, one.declined, one.evaluation) for one in answers] == [(None, "", None)]
    assert bench.it.model_failing_since == pytest.approx(bench.ctx.now - 0.1 * (MODEL_TRIES + 1))
    bench.it.blob_progressed(bench.ledger.model)
    assert bench.it.model_failing_since is None


def test_a_commit_that_leaves_a_gap_makes_this_node_ask_for_what_is_between(bench: Bench) -> None:
    bench.chain.commit()
    effects = bench.learn(bench.chain.commit())
    assert sent(effects, RecordsRequest) == [RecordsRequest(bench.chain.run, 1)]
    assert bench.ledger.round == 1


def test_behind_a_second_decision_of_a_round_no_record_is_taken_any_more() -> None:
    bench = Bench()
    fork = chain_of(*NAMES[:3])
    fork.commit(model=model("another"))
    effects = bench.learn(fork.commit(), fork.commit())
    assert bench.ledger.halted
    assert [effect.code for effect in of_kind(effects, Exit)] == [ExitCode.CONFLICT]
    assert [effect.commit.record.round for effect in of_kind(effects, SaveCommit)] == [2], "as evidence"


@pytest.mark.parametrize(("trained", "declined"), [(1, "it is leaving"), (10, "")])
def test_who_leaves_declines_to_train_and_still_evaluates_in_the_closing_round(
    trained: int, declined: str
) -> None:
    bench = Bench(trained)
    assert bench.it.local_trainer.is_training_round == bool(declined)
    bench.it.leave()
    assert bench.it.leaving
    assert bench.it.local_trainer.declined == declined


# --- the state of a strategy ------------------------------------------------------------------------------------


def test_a_damaged_state_stops_the_work_until_it_is_pulled_again() -> None:
    bench = Bench(spec=STATEFUL)
    blobs = bench.ledger.blobs
    lost = inputs.BlobFailed(blobs.state, "it is damaged", invalid=False, is_lost=True)
    bench.it.blob_failed(lost)
    assert of_kind(taken(bench.ctx), StopTraining)
    assert not bench.ledger.holds
    (fetch,) = of_kind(bench.advance(bench.ctx.settings.resend), Fetch)
    assert fetch.digests == blobs.digests
    bench.it.blob_ready(inputs.BlobReady(blobs.model, durable=True))
    assert not bench.ledger.holds, "the state is missing"
    bench.it.blob_ready(inputs.BlobReady(blobs.model, durable=True, companions=(blobs.state,)))
    assert of_kind(taken(bench.ctx), Train)


def test_the_failure_of_a_training_from_another_state_is_not_of_this_round() -> None:
    bench = Bench(spec=STATEFUL)
    (train,) = of_kind(bench.began, Train)
    other = msgspec.structs.replace(train.job, state=model("another state"))
    bench.it.work_failed(inputs.WorkFailed(Train(other), "no memory"))
    assert bench.it.local_trainer.declined == ""
    bench.it.work_failed(inputs.WorkFailed(train, "no memory"))
    assert bench.it.local_trainer.declined == "its training failed: no memory"


def test_an_update_trained_from_another_state_or_memory_is_not_taken() -> None:
    bench = Bench(spec=STATEFUL)
    (train,) = of_kind(bench.began, Train)
    for changes in ({"state": model("another")}, {"memory": model("another")}):
        job = msgspec.structs.replace(train.job, **changes)
        bench.it.trained(inputs.Trained(job, result_with(model("update"))))
        assert bench.it.local_trainer.update is None
    bench.it.trained(inputs.Trained(train.job, result_with(model("update"))))
    assert bench.it.local_trainer.update is not None


def test_an_accepted_state_that_cannot_be_pulled_again_is_a_lost_disk() -> None:
    chain = chain_of(*NAMES[:3], rounds=1, spec=STATEFUL)
    record = chain.commit().record
    again = Bench(vote=Vote(2, ballot(1, "ben"), ballot(1, "ben"), record), spec=STATEFUL)
    blobs = record.blobs
    failed = inputs.BlobFailed(record.model, "nobody has it", invalid=False, companions=(blobs.state,))
    for _ in range(LOST_BLOB_TRIES):
        again.it.blob_failed(failed)
    assert of_kind(taken(again.ctx), Exit)[0].code == ExitCode.LOST_MODEL
