"""How updates come to be counted, as the whole aggregator gathers them."""

from __future__ import annotations

import msgspec
import pytest

from p2pfl import events
from p2pfl.core.aggregator import Candidacy
from p2pfl.core.collection import PULL_TRIES, Stage
from p2pfl.core.effects import Aggregate, AnyEffect, Fetch, Send
from p2pfl.core.inputs import BlobFailed
from p2pfl.messages import Accept, Ack, Collect, Evaluation, Submit, UpdateBlobs
from p2pfl.spec import with_options
from tests.support.aggregator import Bench
from tests.support.core import chain_of, link, member, model, of_kind, sent, status, taken, told, unlink
from tests.support.known import known
from tests.support.records import CARD, MEDIAN, NAMES, SPEC, STATEFUL, evaluation, node, update


@pytest.fixture
def stage() -> Bench:
    return Bench()


# --- collecting --------------------------------------------------------------------------------------------------


def test_an_update_counts_once_it_is_pulled_and_checked(stage: Bench) -> None:
    stage.elect()
    pull = stage.submit("ben")
    assert [fetch.sources[0] for fetch in of_kind(pull, Fetch)] == [node("ben")]
    assert [fetch.durable for fetch in of_kind(pull, Fetch)] == [False]
    assert sent(pull, Ack) == []
    done = stage.pulled(update("ben", 1).digest)
    assert [acked.refused for acked in sent(done, Ack)] == [""]
    assert told(done, events.UpdateCounted) == [events.UpdateCounted(1, "ben", 100)]


def test_an_update_that_is_durable_because_a_vote_wanted_its_bytes_counts_too(stage: Bench) -> None:
    stage.elect()
    stage.submit("ben")
    assert told(stage.pulled(update("ben", 1).digest, durable=True), events.UpdateCounted)


def test_an_update_announced_twice_is_counted_once_and_acknowledged_again(stage: Bench) -> None:
    stage.elect()
    stage.count("ben")
    again = stage.submit("ben")
    assert [type(effect) for effect in again] == [Send]
    assert sent(again, Ack)
    assert len(stage.it.collection.at(Stage.COUNTED)) == 1


def test_bytes_that_nobody_waits_for_count_for_nobody(stage: Bench) -> None:
    stage.elect()
    stage.count("ben")
    assert stage.pulled(update("ben", 1).digest) == []
    assert stage.pulled(update("cleo", 1).digest) == []


def test_an_update_of_another_parent_is_not_taken(stage: Bench) -> None:
    stage.elect()
    assert stage.submit("ben", previous=model("another parent")) == []
    assert stage.it.collection.contributions == {}


def test_an_update_of_no_member_is_not_taken(stage: Bench) -> None:
    stage.elect()
    assert stage.submit("eve") == []


def test_absurd_examples_are_refused_and_the_node_is_named(stage: Bench) -> None:
    stage.elect()
    effects = stage.submit("ben", examples=CARD.examples + 1)
    (refused,) = told(effects, events.UpdateRefused)
    assert refused.name == "ben"
    assert "1001 samples" in refused.reason
    assert [acked.refused for acked in sent(effects, Ack)] == [refused.reason]


def test_a_refusal_is_told_to_people_once_however_often_the_update_is_announced(stage: Bench) -> None:
    stage.elect()
    stage.submit("ben", examples=CARD.examples + 1)
    effects = stage.submit("ben", examples=CARD.examples + 1)
    assert told(effects, events.UpdateRefused) == []
    assert len(sent(effects, Ack)) == 1


def test_an_update_with_blobs_that_the_strategy_does_not_have_is_refused(stage: Bench) -> None:
    stage.elect()
    given = update("ben", 1)
    extra = msgspec.structs.replace(given, blobs=UpdateBlobs(given.digest, control=model("control")))
    assert stage.it.ballot is not None
    submit = Submit(stage.chain.run, 1, stage.it.ballot, stage.ledger.digest, extra, "", None)
    stage.it.submit(member("ben"), submit)
    effects = taken(stage.ctx)
    assert of_kind(effects, Fetch) == []
    assert [acked.refused for acked in sent(effects, Ack)] == [
        "it names the blobs update, control, not update"
    ]


def test_an_update_that_is_not_finite_is_refused_and_the_node_is_named(stage: Bench) -> None:
    stage.elect()
    stage.submit("ben")
    stage.it.blob_failed(BlobFailed(update("ben", 1).digest, "tensor weight holds a NaN", invalid=True))
    (refused,) = told(taken(stage.ctx), events.UpdateRefused)
    assert (refused.name, refused.reason) == ("ben", "tensor weight holds a NaN")


def test_an_update_that_cannot_be_pulled_for_now_may_be_announced_again(stage: Bench) -> None:
    stage.elect()
    stage.submit("ben")
    stage.it.blob_failed(BlobFailed(update("ben", 1).digest, "the link ended", invalid=False))
    assert of_kind(stage.submit("ben"), Fetch)


def test_an_evaluation_that_comes_after_the_update_is_kept(stage: Bench) -> None:
    stage.elect()
    stage.count("ben")
    stage.submit("ben", evaluation=evaluation(8, 10, 2.0))
    assert stage.it.collection.contributions[node("ben")].evaluation == evaluation(8, 10, 2.0)


# --- who is waited for -------------------------------------------------------------------------------------------


def test_a_member_whose_link_ended_is_not_waited_for_beyond_suspicion(stage: Bench) -> None:
    stage.elect()
    stage.count("ada", "ben")
    unlink(stage.ctx, "cleo")
    assert of_kind(stage.advance(), Aggregate) == []
    assert of_kind(stage.advance(stage.ctx.settings.gone), Aggregate)
    (left,) = sent(stage.aggregate(model("average")), Accept)[0].record.left_out
    assert left.reason == "it was not reachable"


def test_a_member_that_never_says_anything_on_its_link_is_not_waited_for_beyond_some_seconds(
    stage: Bench,
) -> None:
    stage.ctx.run = stage.chain.run
    stage.elect()
    stage.ctx.peers[node("ben")].hear(status(run=stage.chain.run), stage.ctx.now)
    stage.count("ada", "ben")
    assert of_kind(stage.advance(), Aggregate) == []
    assert stage.it.wake == stage.ctx.peers[node("cleo")].since + stage.ctx.settings.start_grace
    assert of_kind(stage.advance(stage.ctx.settings.start_grace), Aggregate)


def test_a_node_that_came_back_with_an_empty_disk_is_not_waited_for(stage: Bench) -> None:
    stage.elect()
    stage.count("ada", "ben")
    unlink(stage.ctx, "cleo")
    link(stage.ctx, "cleo", other_journal="cleo's new disk")
    assert of_kind(stage.advance(), Aggregate)


def test_a_slow_member_that_works_is_waited_for_until_its_own_deadline(stage: Bench) -> None:
    stage.elect()
    stage.count("ada", "ben")
    slow = status(run=stage.chain.run, phase="training", predicted=30.0)
    peer = link(stage.ctx, "cleo", slow)
    peer.moved_at = stage.ctx.now
    assert of_kind(stage.advance(30.0), Aggregate) == []
    assert of_kind(stage.advance(16.1), Aggregate)  # 1.5 times 30 s, and one resend


def test_a_member_outside_the_sample_is_asked_when_a_sampled_one_is_gone() -> None:
    spec = with_options(SPEC, sample=1, min_updates=3)
    stage = Bench(chain_of(*NAMES[:3], spec=spec))
    stage.elect()
    (first,) = stage.it.collection.selected
    name = next(name for name in NAMES if node(name) == first)
    for other in NAMES[:3]:
        stage.submit(other, announced=False, declined="broken" if other == name else "")
    effects = stage.advance()
    assert [message.selected for message in sent(effects, Collect)] in ([True], [])
    assert len(stage.it.collection.selected) == 2
    (more,) = told(effects, events.MembersSelected)
    assert {node(one) for one in more.names} == stage.it.collection.selected
    # One update was wanted of one sampled member; asking a second does not raise what is enough.
    assert stage.it.collection.enough == 1


def test_a_member_outside_the_sample_may_evaluate_as_long_as_a_training_takes() -> None:
    stage = Bench(chain_of(*NAMES[:3], spec=with_options(SPEC, sample=1)))
    stage.elect()
    (first,) = stage.it.collection.selected
    name = next(name for name in NAMES if node(name) == first)
    assert of_kind(stage.advance(30.0), Aggregate) == []  # nothing is here
    stage.count(name)
    assert of_kind(stage.advance(), Aggregate)


def test_a_round_waits_for_the_evaluations_of_members_outside_the_sample() -> None:
    stage = Bench(chain_of(*NAMES[:3], spec=with_options(SPEC, sample=1)))
    stage.elect()
    (first,) = stage.it.collection.selected
    name = next(name for name in NAMES if node(name) == first)
    stage.count(name)
    assert of_kind(stage.advance(), Aggregate) == []
    for other in NAMES[:3]:
        if other != name:
            stage.submit(other, announced=False, evaluation=evaluation(8, 10, 2.0))
    assert of_kind(stage.advance(), Aggregate)


# --- what cannot be pulled ---------------------------------------------------------------------------------------


def fail_pull(stage: Bench, name: str, times: int = 1) -> list[AnyEffect]:
    """Let *name* announce its update, and the pull fail, so often; return the effects."""
    effects = []
    for _ in range(times):
        stage.submit(name)
        stage.it.blob_failed(BlobFailed(update(name, stage.round).digest, "nobody answers", invalid=False))
        effects += taken(stage.ctx)
    return effects


def test_an_update_that_cannot_be_pulled_is_tried_a_few_times_and_left_out_with_the_reason(
    stage: Bench,
) -> None:
    stage.elect()
    assert sent(fail_pull(stage, "cleo", PULL_TRIES - 1), Ack) == []
    (acked,) = sent(fail_pull(stage, "cleo"), Ack)
    assert acked.refused == "its update could not be pulled: nobody answers"
    assert stage.it.collection.contributions[node("cleo")].stage is Stage.REFUSED


def test_who_could_not_be_pulled_from_before_is_tried_once(stage: Bench) -> None:
    stage.ctx.peers[node("cleo")].undeliverable = "nobody answers"
    stage.elect()
    assert sent(fail_pull(stage, "cleo"), Ack)


def test_a_pull_that_fails_with_the_link_is_no_try(stage: Bench) -> None:
    stage.elect()
    stage.submit("cleo")
    unlink(stage.ctx, "cleo")
    stage.it.blob_failed(BlobFailed(update("cleo", stage.round).digest, "nobody answers", invalid=False))
    assert stage.it.collection.failed_pulls == {}


def test_an_update_on_its_way_is_past_no_deadline_unless_its_member_could_not_be_pulled_from_before(
    stage: Bench,
) -> None:
    stage.elect()
    stage.count("ada", "ben")
    stage.submit("cleo")
    peer = stage.ctx.peers[node("cleo")]
    peer.status = status(run=stage.chain.run, round=stage.ledger.round, predicted=1.0, progress=1.0)
    stage.ctx.now += 30.0
    stage.advance()
    assert stage.it.candidacy is Candidacy.COLLECTING
    peer.undeliverable = "pi cannot be dialled"
    stage.advance()
    (record,) = {one.record for one in sent(stage.aggregate(model("average")), Accept)}
    assert [left.reason for left in record.left_out] == [
        "its update could not be pulled: pi cannot be dialled"
    ]


def test_an_evaluation_of_other_metrics_is_left_out_and_its_update_counts(stage: Bench) -> None:
    stage.elect()
    effects = stage.submit("ben", evaluation=Evaluation(10, {"dice": 8.0}))
    assert "the evaluation of ben is left out" in told(effects, events.Notice)[0].text
    contribution = stage.it.collection.contributions[node("ben")]
    assert (contribution.stage, contribution.evaluation) == (Stage.ANNOUNCED, None)


def test_an_update_waits_until_the_worker_knows_how_long_it_must_be(stage: Bench) -> None:
    stage.elect()
    schema, stage.ledger.schema = stage.ledger.schema, None
    assert of_kind(stage.submit("ben"), Fetch) == []
    assert node("ben") not in stage.it.collection.contributions
    stage.ledger.schema = schema
    assert of_kind(stage.submit("ben"), Fetch) != []


# --- what a strategy needs ---------------------------------------------------------------------------------------


def test_an_update_counts_once_its_control_is_here_too() -> None:
    stage = Bench(chain_of(*NAMES[:3], spec=STATEFUL))
    stage.elect()
    (fetch,) = of_kind(stage.submit("ben"), Fetch)
    blobs = stage.update_of("ben").blobs
    assert fetch.digests == blobs.digests
    assert sent(stage.pulled(blobs.update), Ack) == []
    assert sent(stage.pulled(*blobs.digests), Ack)
    assert stage.it.collection.at(Stage.COUNTED) == [node("ben")]
    assert stage.it.pinned() >= set(blobs.digests)


def test_an_update_without_the_control_that_the_strategy_has_is_refused() -> None:
    stage = Bench(chain_of(*NAMES[:3], spec=STATEFUL))
    stage.elect()
    bare = Submit(stage.chain.run, 1, known(stage.it.ballot), stage.ledger.digest, update("ben", 1), "", None)
    stage.it.submit(member("ben"), bare)
    (refused,) = told(taken(stage.ctx), events.UpdateRefused)
    assert refused.reason == "it names the blobs update, not update, control"


@pytest.mark.parametrize(("sample", "enough"), [(0, 3), (1, 3), (2, 3)])
def test_as_many_updates_as_the_strategy_needs_are_waited_for(sample: int, enough: int) -> None:
    stage = Bench(chain_of(*NAMES, spec=with_options(MEDIAN, sample=sample)), linked=NAMES[1:])
    stage.elect()
    stage.promise("cleo")
    assert stage.it.collection.enough == enough


def test_no_more_updates_are_waited_for_than_there_are_members() -> None:
    stage = Bench(chain_of(*NAMES[:2], spec=MEDIAN), linked=("ben",))
    stage.elect()
    assert stage.it.collection.enough == 2
