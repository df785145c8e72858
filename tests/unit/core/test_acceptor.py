from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.core.acceptor import Acceptor
from p2pfl.core.context import Context
from p2pfl.core.effects import Fetch, SaveAccepted, SavePromise, Send
from p2pfl.core.inputs import BlobFailed
from p2pfl.core.lease import LeaseStep
from p2pfl.core.saved import Vote
from p2pfl.messages import (
    Accept,
    Accepted,
    Evaluation,
    MemberEvaluation,
    Prepare,
    Promise,
    Record,
    RecordBlobs,
    Refuse,
    Undelivered,
    UpdateEntry,
    record_digest,
)
from p2pfl.proofs import CastVote
from tests.support.core import ballot, chain_of, context, ledger, member, model, of_kind, sent, taken, told
from tests.support.records import NAMES, STATEFUL, Chain, node, update


@pytest.fixture
def ctx() -> Any:
    return context("ada")


@pytest.fixture
def chain() -> Any:
    return chain_of(*NAMES[:3])


@pytest.fixture
def own() -> Any:
    """What was handed to this node's own candidacy."""
    return []


@pytest.fixture
def voter(ctx: Context, chain: Chain, own: list[Any]) -> Any:
    return Acceptor(ctx, ledger(ctx, chain), own.append)


def prepare(voter: Acceptor, attempt: int, name: str) -> Any:
    stands = ballot(attempt, name)
    voter.prepare(member(name), Prepare(voter.ledger.run, voter.round, stands))
    return taken(voter.ctx)


def proposal(chain: Chain, word: str = "average") -> Record:
    """A record that may follow the last commit of *chain*, which does not grow by it."""
    record = chain.commit(model=model(word)).record
    chain.commits.pop()
    return record


def is_vote(voter: Acceptor, message: Accepted | Promise, votes: int) -> Any:
    """Whether *message* carries this member's signed vote, and it is its vote number *votes*."""
    record = message.record if isinstance(message, Accepted) else ""
    cast = CastVote(message.run, message.round, message.ballot, record, message.vote)
    is_mine = (message.vote.member, message.vote.votes) == (voter.ctx.me, votes)
    return is_mine and cast.is_valid(voter.ctx.signer.verify)


def propose(voter: Acceptor, record: Record, attempt: int, name: str) -> Any:
    voter.propose(member(name), Accept(voter.ledger.run, voter.round, ballot(attempt, name), record))
    return taken(voter.ctx)


def pulled(voter: Acceptor, record: Record) -> Any:
    voter.blob_ready((record.model,))
    return taken(voter.ctx)


def test_a_promise_is_on_disk_before_the_answer_leaves(voter: Any) -> None:
    save, answer = prepare(voter, 1, "ben")
    assert save == SavePromise(voter.ledger.run, 1, ballot(1, "ben"), 1)
    promise = Promise(voter.ledger.run, 1, ballot(1, "ben"), None, None, answer.message.vote)
    assert answer == Send(node("ben"), promise)
    assert is_vote(voter, promise, 1)


def test_a_lower_ballot_is_refused_with_the_higher_one(voter: Acceptor) -> None:
    prepare(voter, 2, "ben")
    assert prepare(voter, 1, "cleo") == [
        Send(node("cleo"), Refuse(voter.ledger.run, 1, ballot(1, "cleo"), ballot(2, "ben")))
    ]


def test_a_repeated_prepare_is_answered_again_without_another_write(voter: Acceptor) -> None:
    prepare(voter, 1, "ben")
    again = prepare(voter, 1, "ben")
    assert of_kind(again, SavePromise) == []
    (promise,) = sent(again, Promise)
    assert promise.ballot == ballot(1, "ben")
    assert is_vote(voter, promise, 1)


def test_a_higher_ballot_takes_the_promise(voter: Acceptor) -> None:
    prepare(voter, 1, "ben")
    assert sent(prepare(voter, 2, "cleo"), Promise)
    assert voter.promised == ballot(2, "cleo")


def test_a_proposal_is_answered_only_once_its_blobs_are_here_and_it_is_on_disk(
    voter: Any, chain: Chain
) -> None:
    record = proposal(chain)
    pull = propose(voter, record, 1, "ben")
    assert [type(effect) for effect in pull] == [Fetch]
    assert pull[0].digest == record.model
    assert pull[0].sources == (node("ben"), node("cleo"))

    effects = pulled(voter, record)
    kinds = [type(effect) for effect in effects if isinstance(effect, SaveAccepted | Send)]
    assert kinds == [SaveAccepted, Send]
    (accepted,) = sent(effects, Accepted)
    assert (accepted.ballot, accepted.record) == (ballot(1, "ben"), record_digest(record))
    assert is_vote(voter, accepted, 1)


def test_a_higher_promise_during_the_pull_forbids_the_acceptance(voter: Acceptor, chain: Chain) -> None:
    record = proposal(chain)
    propose(voter, record, 1, "ben")
    prepare(voter, 2, "cleo")
    effects = pulled(voter, record)
    assert of_kind(effects, SaveAccepted) == []
    assert sent(effects, Refuse) == [Refuse(chain.run, 1, ballot(1, "ben"), ballot(2, "cleo"))]
    assert voter.accepted is None


def test_a_commit_during_the_pull_forbids_the_acceptance(voter: Acceptor, chain: Chain) -> None:
    record = proposal(chain)
    propose(voter, record, 1, "ben")
    voter.ledger.commit(chain.commit(model=model("another")))
    taken(voter.ctx)
    assert pulled(voter, record) == []


def test_a_proposal_below_the_promise_is_refused_unpulled(voter: Acceptor, chain: Chain) -> None:
    prepare(voter, 2, "cleo")
    effects = propose(voter, proposal(chain), 1, "ben")
    assert of_kind(effects, Fetch) == []
    assert sent(effects, Refuse) == [Refuse(chain.run, 1, ballot(1, "ben"), ballot(2, "cleo"))]


def test_a_repeated_proposal_is_answered_again_without_another_pull(voter: Acceptor, chain: Chain) -> None:
    record = proposal(chain)
    propose(voter, record, 1, "ben")
    first = sent(pulled(voter, record), Accepted)
    again = propose(voter, record, 1, "ben")
    assert sent(again, Accepted) == first
    assert of_kind(again, Fetch, SaveAccepted) == []


def test_a_promise_names_the_value_accepted_before(voter: Acceptor, chain: Chain) -> None:
    record = proposal(chain)
    propose(voter, record, 1, "ben")
    pulled(voter, record)
    (promise,) = sent(prepare(voter, 2, "cleo"), Promise)
    assert (promise.accepted_ballot, promise.accepted) == (ballot(1, "ben"), record)


def test_the_same_value_can_be_accepted_again_in_a_higher_ballot(voter: Acceptor, chain: Chain) -> None:
    record = proposal(chain)
    propose(voter, record, 1, "ben")
    pulled(voter, record)
    propose(voter, record, 2, "cleo")
    (answer,) = sent(pulled(voter, record), Accepted)
    assert answer.ballot == ballot(2, "cleo")
    assert voter.accepted_ballot == ballot(2, "cleo")


def test_a_record_of_another_parent_is_not_pulled(voter: Acceptor) -> None:
    foreign = proposal(chain_of(*NAMES[1:4]))
    assert of_kind(propose(voter, foreign, 1, "ben"), Fetch) == []


def test_a_failed_pull_forgets_the_proposal_until_it_is_repeated(voter: Acceptor, chain: Chain) -> None:
    record = proposal(chain)
    propose(voter, record, 1, "ben")
    voter.blob_failed(BlobFailed(record.model, "nobody has it", invalid=False))
    (answer,) = sent(taken(voter.ctx), Undelivered)
    assert (answer.ballot, answer.reason) == (ballot(1, "ben"), "nobody has it")
    assert pulled(voter, record) == []
    assert of_kind(propose(voter, record, 1, "ben"), Fetch)


def test_while_bytes_of_its_model_come_a_candidate_is_left_more_time(voter: Any, chain: Chain) -> None:
    record = proposal(chain)
    propose(voter, record, 1, "ben")
    until = voter.lease.until(60.0)
    voter.ctx.now += 10.0
    propose(voter, record, 1, "ben")
    assert voter.lease.until(60.0) == until, "a repeated ACCEPT is no progress"
    voter.blob_progressed(record.model)
    assert voter.lease.until(60.0) == until + 10.0


def test_a_candidate_that_comes_back_goes_on_with_the_time_it_had(voter: Any) -> None:
    prepare(voter, 2, "ben")
    until = voter.lease.until(60.0)
    voter.end_lease(node("ben"))
    voter.ctx.now += 10.0
    voter.defer_to(ballot(2, "ben"), LeaseStep.STANDS)
    assert voter.lease.until(60.0) == until


def test_a_lower_proposal_does_not_replace_the_one_being_pulled(voter: Any, chain: Chain) -> None:
    higher, lower = proposal(chain, "higher"), proposal(chain, "lower")
    propose(voter, higher, 2, "cleo")
    assert propose(voter, lower, 1, "ben") == []
    assert voter.pending.record == higher


def test_what_was_accepted_or_is_pulled_is_pinned(voter: Acceptor, chain: Chain) -> None:
    first, second = proposal(chain, "first"), proposal(chain, "second")
    assert voter.pinned() == set()
    propose(voter, first, 1, "ben")
    pulled(voter, first)
    propose(voter, second, 2, "cleo")
    assert voter.pinned() == {first.model, second.model}


def test_ones_own_proposal_is_accepted_like_any_other_and_answered_within_the_node(
    voter: Any, chain: Chain, own: Any
) -> None:
    record = proposal(chain)
    (fetch,) = propose(voter, record, 1, "ada")
    assert (fetch.digest, fetch.durable) == (record.model, True)
    assert own == []
    (save,) = pulled(voter, record)
    assert save == SaveAccepted(voter.ledger.run, 1, ballot(1, "ada"), record, 1)
    (answer,) = own
    assert answer == Accepted(voter.ledger.run, 1, ballot(1, "ada"), record_digest(record), answer.vote)
    assert is_vote(voter, answer, 1)


def test_the_votes_of_the_open_round_come_back_from_the_journal(ctx: Any, chain: Any) -> None:
    record = proposal(chain)
    vote = Vote(1, ballot(2, "cleo"), ballot(1, "ben"), record)
    voter = Acceptor.open(ctx, ledger(ctx, chain), lambda _answer: None, vote)
    assert voter.vote() == vote
    assert sent(prepare(voter, 1, "ben"), Refuse)


def test_the_votes_of_a_decided_round_do_not_bind_in_the_next(ctx: Any, chain: Any) -> None:
    vote = Vote(1, ballot(9, "cleo"), None, None)
    chain.commit()
    voter = Acceptor.open(ctx, ledger(ctx, chain), lambda _answer: None, vote)
    assert voter.promised is None


def test_a_leader_lease_ends_when_its_holder_is_unlinked_or_steps_down(voter: Acceptor) -> None:
    prepare(voter, 1, "ben")
    assert voter.lease
    assert not voter.end_lease(node("cleo"))
    assert voter.end_lease(node("ben"))
    assert not voter.lease


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({"blobs": RecordBlobs(model("average"), state=model("state"))}, "names the blobs model, state"),
        (
            {"evaluations": (MemberEvaluation(node("ben"), Evaluation(9, {"dice": 4.0})),)},
            "has the metrics dice, not accuracy, loss",
        ),
        (
            {"updates": (update("ben", 1, 10**9),)},
            "an update of ben in it does not count: it claims 1000000000",
        ),
    ],
)
def test_a_record_that_does_not_fit_the_run_is_not_pulled_and_its_flaw_is_told(
    voter: Acceptor,
    chain: Chain,
    changes: dict[str, RecordBlobs]
    | dict[str, tuple[MemberEvaluation, ...]]
    | dict[str, tuple[UpdateEntry, ...]],
    flaw: str,
) -> None:
    record = msgspec.structs.replace(proposal(chain), **changes)
    effects = propose(voter, record, 3, "ben")
    assert of_kind(effects, Fetch, SaveAccepted) == []
    (notice,) = told(effects, events.Notice)
    assert "a record that does not fit the run: " in notice.text
    assert flaw in notice.text


def test_progress_of_another_candidate_leaves_no_more_time(voter: Any) -> None:
    prepare(voter, 2, "ben")
    until = voter.lease.until(60.0)
    voter.ctx.now += 10.0
    voter.progressed(ballot(1, "cleo"))
    assert voter.lease.until(60.0) == until
    voter.progressed(ballot(2, "ben"))
    assert voter.lease.until(60.0) == until + 10.0


# --- the state of a strategy ------------------------------------------------------------------------------------


def stateful_voter() -> tuple[Acceptor, Record, Record]:
    """A voter, and two proposals that differ only in their state."""
    ctx = context("ada")
    chain = chain_of(*NAMES[:3], rounds=1, spec=STATEFUL)
    found = Acceptor(ctx, ledger(ctx, chain), lambda _: None)
    one = proposal(chain)
    other = msgspec.structs.replace(one, blobs=RecordBlobs(one.model, model("another state")))
    return found, one, other


def test_a_proposal_is_accepted_only_when_model_and_state_are_here() -> None:
    voter, record, other = stateful_voter()
    (fetch,) = of_kind(propose(voter, record, 1, "ben"), Fetch)
    assert fetch.digests == record.blobs.digests
    assert voter.pinned() == set(record.blobs.digests)
    for digests in ((record.model,), other.blobs.digests):
        voter.blob_ready(digests)
        assert taken(voter.ctx) == []
    voter.blob_ready(record.blobs.digests)
    assert of_kind(taken(voter.ctx), SaveAccepted)[0].record == record
    assert voter.pinned() == set(record.blobs.digests)


def test_the_same_model_with_another_state_is_another_proposal() -> None:
    voter, record, other = stateful_voter()
    propose(voter, record, 1, "ben")
    (fetch,) = of_kind(propose(voter, other, 2, "cleo"), Fetch)
    assert fetch.digests == other.blobs.digests
    voter.blob_ready(record.blobs.digests)
    assert voter.accepted is None
    model_, state = record.blobs.digests
    voter.blob_failed(BlobFailed(model_, "nobody has it", invalid=False, companions=(state,)))
    assert voter.pending is not None, "the pull of the earlier proposal failed"
    model_, state = other.blobs.digests
    voter.blob_failed(BlobFailed(model_, "nobody has it", invalid=False, companions=(state,)))
    assert sent(taken(voter.ctx), Undelivered)
    assert voter.pending is None


def test_bytes_of_the_state_are_progress_too() -> None:
    voter, record, other = stateful_voter()
    propose(voter, record, 1, "ben")
    before = voter.lease
    voter.ctx.now += 1.0
    voter.blob_progressed(other.blobs.state)
    assert voter.lease == before
    voter.blob_progressed(record.blobs.state)
    assert voter.lease != before
