"""What the open round's parts do together; single steps are tested with each part, whole rounds in `tests/sim`."""

import msgspec
import pytest

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.aggregator import Stand
from p2pfl.core.effects import Collect as CollectBlobs
from p2pfl.core.effects import Evaluate, Exit, Fetch, Send, StopTraining, Train
from p2pfl.core.roster import ranked
from p2pfl.core.running import LOST_BLOB_TRIES, LOST_DISK_EXIT, Running
from p2pfl.core.saved import Vote
from p2pfl.core.wishes import ENDED_NOW
from p2pfl.messages import Accept, Ask, Collect, Evaluation, Noted, Prepare, Promise, Submit, Wish, Yield
from tests.support.core import (
    ballot,
    chain_of,
    context,
    ledger,
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
from tests.support.records import NAMES, SPEC, node, update


class Bench:
    """A member in the round after its chain's last; every call returns the effects."""

    def __init__(self, rounds=1, *, members=NAMES[:3], vote=None, restored=None):
        self.ctx = context("ada", linked=members[1:])
        self.chain = chain_of(*members, rounds=rounds)
        self.ledger = ledger(self.ctx, self.chain)
        self.it = Running(self.ctx, self.ledger, ready=True)
        self.it.open_round(vote, restored)
        self.began = taken(self.ctx)

    def hear(self, name, message):
        self.it.received(member(name), message)
        return taken(self.ctx)

    def advance(self, seconds=0.0):
        self.ctx.now += seconds
        self.it.advance()
        return taken(self.ctx)

    def learn(self, *commits):
        self.it.learned(member("ben"), commits)
        return taken(self.ctx)

    def proposal(self, word="average"):
        record = self.chain.commit(model=model(word)).record
        self.chain.commits.pop()
        return record


@pytest.fixture
def bench():
    return Bench()


def test_training_begins_with_the_round(bench):
    assert [train.round for train in of_kind(bench.began, Train)] == [2]


def test_a_commit_ends_the_training_and_opens_the_next_round(bench):
    effects = bench.learn(bench.chain.commit())
    assert of_kind(effects, StopTraining)
    assert of_kind(effects, Fetch)[-1].digest == bench.ledger.model
    assert bench.it.acceptor.round == 3


def test_an_accepted_record_that_commits_needs_no_pull(bench):
    commit = bench.chain.commit()
    bench.hear("ben", Accept(bench.chain.run, 2, ballot(5, "ben"), commit.record))
    bench.it.blob_ready(inputs.BlobReady(commit.record.model, durable=True))
    taken(bench.ctx)
    assert of_kind(bench.learn(commit), Fetch) == []
    assert bench.ledger.holds


def test_blobs_are_let_go_of_once_after_a_commit_and_not_before_all_else_is_done(bench):
    bench.it.tidy(lambda: {model("elsewhere")})
    taken(bench.ctx)
    bench.learn(bench.chain.commit())
    bench.it.blob_ready(inputs.BlobReady(bench.ledger.model, durable=True))
    assert of_kind(taken(bench.ctx), CollectBlobs) == []
    bench.it.tidy(lambda: {model("elsewhere")})
    bench.it.tidy(lambda: {model("elsewhere")})
    (collect,) = taken(bench.ctx)
    assert isinstance(collect, CollectBlobs)
    assert bench.ledger.model in collect.keep


def test_a_candidate_that_overtook_the_commit_has_its_promise_once_the_commit_is_here(bench):
    stands = ballot(5, "cleo")
    assert bench.hear("cleo", Prepare(bench.chain.run, 3, stands)) == []
    effects = [*bench.learn(bench.chain.commit()), *bench.advance()]
    assert [promise.ballot for promise in sent(effects, Promise)] == [stands]
    assert sent(effects, Ask) == []


def test_everybody_hears_of_a_commit_before_the_next_round_is_begun(bench):
    commit = bench.chain.commit()
    bench.it.commit(commit)
    kinds = [effect.message if isinstance(effect, Send) else effect for effect in taken(bench.ctx)]
    assert kinds.index(commit) < next(place for place, one in enumerate(kinds) if isinstance(one, Fetch))


def test_whose_update_is_not_counted_is_told_why(bench):
    bench.it.trainee.trained(update("ada", 2).digest, 100, 0.5, 1.0)
    taken(bench.ctx)
    commit = bench.chain.commit()
    without = tuple(entry for entry in commit.record.updates if entry.node != node("ada"))
    record = msgspec.structs.replace(commit.record, updates=without)
    effects = bench.learn(msgspec.structs.replace(commit, record=record))
    assert [event.reason for event in told(effects, events.UpdateRefused)] == ["another record was adopted"]


def test_a_higher_ballot_ends_this_nodes_own_candidacy(bench):
    bench.it.aggregator.stand("first in rank")
    mine = bench.it.aggregator.ballot
    taken(bench.ctx)
    effects = bench.hear("ben", Prepare(bench.chain.run, 2, ballot(mine.attempt + 1, "ben")))
    assert sent(effects, Yield)
    assert bench.it.aggregator.stand_state is Stand.IDLE


def test_the_election_is_told_once_for_a_ballot(bench):
    collect = Collect(bench.chain.run, 2, ballot(3, "ben"), selected=True)
    told_first = told(bench.hear("ben", collect), events.Elected)
    assert [(event.aggregator, event.attempt) for event in told_first] == [("ben", 3)]
    assert told(bench.hear("ben", collect), events.Elected) == []


def test_nobody_collects_in_anothers_name(bench):
    bench.it.trainee.trained(update("ada", 2).digest, 100, 0.5, 1.0)
    taken(bench.ctx)
    assert (
        sent(bench.hear("ben", Collect(bench.chain.run, 2, ballot(3, "cleo"), selected=True)), Submit) == []
    )


def test_a_yield_ends_the_courtesy_and_is_told(bench):
    bench.hear("ben", Prepare(bench.chain.run, 2, ballot(3, "ben")))
    given_up = Yield(bench.chain.run, 2, ballot(3, "ben"), "its worker could not average")
    (event,) = told(bench.hear("ben", given_up), events.Yielded)
    assert (event.aggregator, event.reason) == ("ben", "its worker could not average")
    assert not bench.it.acceptor.courtesy


def test_a_halted_node_answers_nothing(bench):
    bench.ledger.halted = True
    assert bench.hear("ben", Prepare(bench.chain.run, 2, ballot(9, "ben"))) == []


def test_the_loss_and_the_return_of_the_quorum_are_told_once():
    bench = Bench(members=NAMES)
    for name in ("ben", "cleo", "dan"):
        unlink(bench.ctx, name)
    (lost,) = told(bench.advance() + bench.advance(5.0), events.QuorumLost)
    assert (lost.reachable, lost.members, lost.needed) == (2, 5, 3)
    bench.ctx.peers[node("ben")].linked = True
    (back,) = told(bench.advance() + bench.advance(1.0), events.QuorumBack)
    assert back.reachable == 3


def test_without_a_quorum_nobody_stands():
    bench = Bench(members=NAMES)
    for name in ("ben", "cleo", "dan"):
        unlink(bench.ctx, name)
    assert sent(bench.advance(600.0), Prepare) == []


def test_in_a_new_run_nobody_stands_before_a_quorum_is_in_it_and_every_rank_has_its_turn_from_then_on():
    bench = Bench(rounds=0)
    step = bench.ctx.settings.rank_step
    assert told(bench.advance(600.0), events.Standing) == [], "ben and cleo have not taken record 0 yet"
    bench.ctx.peers[node("ben")].status = status(run="another", round=0)
    assert told(bench.advance(), events.Standing) == []
    bench.ctx.peers[node("ben")].status = status(run=bench.chain.run, round=0)
    assert told(bench.advance(), events.Standing) == []
    assert told(bench.advance(0.9 * step), events.Standing) == [], "ben, who is before ada, has its turn"
    assert [event.round for event in told(bench.advance(0.2 * step), events.Standing)] == [1]


def test_ones_own_training_is_cut_at_the_cap_when_one_aggregates(bench):
    bench.it.aggregator.stand("first in rank")
    bench.it.aggregator.promise(member("ben"), bench.it.acceptor._promise_message(bench.it.aggregator.ballot))
    assert bench.it.aggregator.stand_state is Stand.COLLECTING
    taken(bench.ctx)
    assert of_kind(bench.advance(SPEC.round_cap - 1), StopTraining) == []
    assert of_kind(bench.advance(2.0), StopTraining)


# --- blobs ------------------------------------------------------------------------------------------------------


def test_a_model_that_a_power_cut_would_take_is_neither_accepted_nor_held(bench):
    commit = bench.chain.commit()
    passing = inputs.BlobReady(commit.record.model, durable=False)
    bench.hear("ben", Accept(bench.chain.run, 2, ballot(5, "ben"), commit.record))
    bench.it.blob_ready(passing)
    assert taken(bench.ctx) == []
    bench.learn(commit)
    bench.it.blob_ready(passing)
    assert not bench.ledger.holds
    bench.it.blob_ready(msgspec.structs.replace(passing, durable=True))
    assert bench.ledger.holds


def test_a_model_that_cannot_be_had_now_is_asked_for_again(bench):
    bench.learn(bench.chain.commit())
    bench.it.blob_failed(inputs.BlobFailed(bench.ledger.model, "nobody has it", invalid=False))
    assert of_kind(bench.advance(), Fetch) == []
    assert of_kind(bench.advance(bench.ctx.settings.resend), Fetch)


def accepted_before(bench):
    record = bench.proposal()
    return Bench(vote=Vote(2, ballot(1, "ben"), ballot(1, "ben"), record)), record


def test_a_restart_looks_for_the_blob_of_the_value_it_accepted(bench):
    again, record = accepted_before(bench)
    assert record.model in {fetch.digest for fetch in of_kind(again.began, Fetch)}


def test_who_can_neither_read_nor_pull_what_it_accepted_counts_its_disk_as_lost(bench):
    again, record = accepted_before(bench)
    failed = inputs.BlobFailed(record.model, "nobody has it", invalid=False)
    for _ in range(LOST_BLOB_TRIES - 1):
        again.it.blob_failed(failed)
    assert of_kind(taken(again.ctx), Exit) == []
    again.it.blob_failed(failed)
    (end,) = of_kind(taken(again.ctx), Exit)
    assert end.code == LOST_DISK_EXIT
    assert "--new-journal" in end.reason


def test_while_nobody_can_be_asked_the_disk_is_not_lost(bench):
    again, record = accepted_before(bench)
    for name in ("ben", "cleo"):
        unlink(again.ctx, name)
    for _ in range(2 * LOST_BLOB_TRIES):
        again.it.blob_failed(inputs.BlobFailed(record.model, "nobody has it", invalid=False))
    assert of_kind(taken(again.ctx), Exit) == []


# --- the worker -------------------------------------------------------------------------------------------------


def test_a_failed_training_is_declined_with_the_reason(bench):
    bench.hear("ben", Collect(bench.chain.run, 2, ballot(3, "ben"), selected=True))
    bench.it.work_failed(inputs.WorkFailed("train", "out of memory", 2))
    effects = taken(bench.ctx)
    assert [s.declined for s in sent(effects, Submit)] == ["its training failed: out of memory"]


def test_a_failed_average_gives_the_ballot_up(bench):
    bench.it.aggregator.stand("first in rank")
    taken(bench.ctx)
    bench.it.work_failed(inputs.WorkFailed("average", "out of memory", 2, bench.it.aggregator.ballot))
    assert receivers(taken(bench.ctx), Yield) == [node("ben"), node("cleo")]
    assert bench.it.aggregator.unable


def test_a_failed_average_of_a_ballot_that_was_given_up_is_nobodys_concern(bench):
    bench.it.aggregator.stand("first in rank")
    failed = inputs.WorkFailed("average", "out of memory", 2, bench.it.aggregator.ballot)
    bench.it.work_failed(failed)
    taken(bench.ctx)
    bench.it.work_failed(failed)
    assert taken(bench.ctx) == []


def test_a_training_of_an_older_round_is_of_no_use(bench):
    bench.it.trained(inputs.Trained(bench.chain.run, 1, model("old"), update("ada", 1).digest, 100, 0.5, 1.0))
    assert bench.it.trainee.update is None


# --- wishes -----------------------------------------------------------------------------------------------------


def test_a_wish_is_passed_on_once(bench):
    wish = Wish(bench.chain.run, 1, "pause", "ada")
    bench.it.wish(wish)
    bench.it.wish(wish)
    assert receivers(taken(bench.ctx), Wish) == [node("ben"), node("cleo")]


def test_a_wish_of_another_run_is_ignored(bench):
    bench.it.wish(Wish(model("run"), 1, "end", "ada"))
    assert taken(bench.ctx) == []
    assert bench.it.wishes.open == {}


def test_a_wish_that_a_record_has_fulfilled_is_void(bench):
    bench.it.wish(Wish(bench.chain.run, 1, "pause", "ada"))
    bench.learn(bench.chain.commit(then="pause"))
    bench.it.wish(Wish(bench.chain.run, 2, "resume", "ada"))
    taken(bench.ctx)
    bench.it.wish(Wish(bench.chain.run, 1, "pause", "ada"))
    assert taken(bench.ctx) == []
    bench.it.wish(Wish(bench.chain.run, 2, "pause", "ada"))
    assert sent(taken(bench.ctx), Wish)


def test_a_wish_is_told_to_people_with_its_author_and_to_whoever_is_linked_later(bench):
    wish = Wish(bench.chain.run, 1, "pause", "ada (operator)")
    bench.it.wish(wish)
    assert told(taken(bench.ctx), events.Wanted) == [events.Wanted("pause", "ada (operator)")]
    bench.it.linked(node("ben"))
    assert Send(node("ben"), wish) in taken(bench.ctx)


def test_a_resumed_run_is_told_of_once(bench):
    bench.learn(bench.chain.commit(then="pause"))
    for _ in range(2):
        bench.it.wish(Wish(bench.chain.run, 2, "resume", "ada"))
    assert told(taken(bench.ctx), events.Resumed) == [events.Resumed(2, "ada")]


def test_when_the_run_is_to_end_now_nobody_trains_for_the_last_round(bench):
    bench.hear("ben", Collect(bench.chain.run, 2, ballot(3, "ben"), selected=True))
    bench.it.wish(Wish(bench.chain.run, 1, "end-now", "ada"))
    effects = taken(bench.ctx)
    assert of_kind(effects, StopTraining)
    assert [submit.declined for submit in sent(effects, Submit)] == [ENDED_NOW]


def test_a_round_opened_while_the_run_is_to_end_now_trains_nothing(bench):
    bench.it.wish(Wish(bench.chain.run, 2, "end-now", "ada"))
    taken(bench.ctx)
    bench.learn(bench.chain.commit())
    bench.it.blob_ready(inputs.BlobReady(bench.ledger.model, durable=True))
    assert of_kind(taken(bench.ctx), Train) == []
    assert bench.it.trainee.declined == ENDED_NOW


@pytest.mark.parametrize("what", ["pause", "end", "end-now"])
def test_nothing_is_against_a_first_wish_and_a_second_one_is_not_needed(bench, what):
    assert bench.it.wishes.objection(what) == ""
    bench.it.wish(Wish(bench.chain.run, 1, what, "ada (operator)"))
    assert "ada (operator)" in bench.it.wishes.objection(what)


def test_only_a_paused_run_can_be_resumed(bench):
    assert "not paused" in bench.it.wishes.objection("resume")
    bench.it.wish(Wish(bench.chain.run, 1, "pause", "ada"))
    assert "pauses with the next commit" in bench.it.wishes.objection("resume")
    bench.learn(bench.chain.commit(then="pause"))
    assert bench.it.wishes.objection("resume") == ""
    assert "paused after round 2 already" in bench.it.wishes.objection("pause")
    assert bench.it.wishes.objection("end") == ""


def test_of_a_finished_run_nothing_is_wanted_any_more(bench):
    bench.learn(bench.chain.commit(then="end"))
    assert {bench.it.wishes.objection(what) for what in ("pause", "resume", "end", "end-now")} == {
        "the run is over"
    }


def test_who_leaves_stops_training_and_declines(bench):
    bench.hear("ben", Collect(bench.chain.run, 2, ballot(3, "ben"), selected=True))
    bench.it.leave()
    effects = taken(bench.ctx)
    assert of_kind(effects, StopTraining)
    assert [submit.declined for submit in sent(effects, Submit)] == ["it is leaving"]
    assert sent(bench.hear("ben", Noted(bench.chain.run, 2, ballot(3, "ben"), "")), Submit) == []


def test_a_wish_to_end_lifts_a_pause_and_a_wish_to_pause_does_not(bench):
    bench.learn(bench.chain.commit(then="pause"))
    for what, is_paused in (("pause", True), ("end", False)):
        bench.it.wish(Wish(bench.chain.run, 2, what, "ada"))
        assert bench.ledger.is_paused == is_paused
    assert set(bench.it.wishes.open) == {"end"}
    effects = taken(bench.ctx)
    assert {wish.what for wish in sent(effects, Wish)} == {"end"}


def test_a_roster_of_one_does_not_stand_again_after_its_run_has_ended():
    lone = Bench(10, members=NAMES[:1])
    assert lone.ledger.next_kind == "evaluate"
    [asked] = of_kind(lone.began, Evaluate)
    lone.it.evaluated(
        inputs.Evaluated(asked.run, asked.round, asked.model, asked.part, asked.parts, Evaluation(1, 2, 0.5))
    )
    effects = lone.advance() + lone.advance()
    lone.it.blob_ready(inputs.BlobReady(lone.ledger.model, durable=True))
    effects += lone.advance()
    assert lone.ledger.is_over
    assert [event.round for event in told(effects, events.Standing)] == [11]


# --- the lowest ballot ------------------------------------------------------------------------------------------


def first_in_rank(chain):
    """Who has the lowest ballot of the round after the last of *chain*, and somebody who has not."""
    order = ranked(chain.run, len(chain.commits) + 1, [node(name) for name in NAMES[:3]])
    names = {node(name): name for name in NAMES[:3]}
    return names[order[0]], names[order[1]]


def test_the_first_in_rank_is_taken_at_its_word_and_nobody_else_has_its_ballot(bench):
    run = bench.chain.run
    first, second = first_in_rank(bench.chain)
    if first == "ada":
        bench.learn(bench.chain.commit())
        first, second = first_in_rank(bench.chain)
    round_ = bench.ledger.round + 1
    assert first != "ada", "another is first in one of the two rounds"
    other = second if second != "ada" else next(name for name in NAMES[:3] if name not in ("ada", first))
    record = bench.proposal()
    for message in (
        Prepare(run, round_, ballot(1, other)),
        Collect(run, round_, ballot(1, other), selected=True),
        Accept(run, round_, ballot(1, other), record),
    ):
        assert bench.hear(other, message) == []
    bench.hear(first, Accept(run, round_, ballot(1, first), record))
    bench.it.blob_ready(inputs.BlobReady(record.model, durable=True))
    assert bench.it.acceptor.accepted_ballot == ballot(1, first)


def test_commits_that_were_missed_are_told_in_one_line():
    bench = Bench()
    missed = [bench.chain.commit() for _ in range(3)]
    effects = bench.learn(*missed)
    assert [event.is_late for event in told(effects, events.Committed)] == [True] * 3
    assert told(effects, events.CaughtUp) == [events.CaughtUp(2, 4, SPEC.rounds, "ben")]


def test_a_commit_that_comes_when_it_is_made_was_not_missed():
    bench = Bench()
    effects = bench.learn(bench.chain.commit())
    assert [event.is_late for event in told(effects, events.Committed)] == [False]
    assert told(effects, events.CaughtUp) == []


def test_catching_up_in_parts_is_told_once_it_is_done():
    bench = Bench()
    first, second, third = [bench.chain.commit() for _ in range(3)]
    bench.ctx.peers[node("ben")].status = status(run=bench.chain.run, round=4)
    assert told(bench.learn(first, second), events.CaughtUp) == []
    effects = bench.learn(third)
    assert told(effects, events.CaughtUp) == [events.CaughtUp(2, 4, SPEC.rounds, "ben")]
