"""One node from outside: inputs in, effects out. Whole rounds are told in `tests/sim`."""

import msgspec

from p2pfl import events
from p2pfl.cards import DataCard
from p2pfl.core import inputs
from p2pfl.core.effects import (
    Create,
    DeleteUnneededBlobs,
    Describe,
    Exit,
    Fetch,
    ReadSchema,
    SaveCommit,
    SaveGenesis,
    Send,
    SendRecords,
    Train,
)
from p2pfl.core.founding import held_start
from p2pfl.core.saved import Saved, SavedRun, Vote
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import (
    Accept,
    Accepted,
    Card,
    Commit,
    Decline,
    DeviceInfo,
    Offer,
    Prepare,
    Promise,
    Records,
    RecordsRequest,
    Refuse,
    Status,
    Submit,
    record_digest,
)
from p2pfl.schema import TensorSpec, canonical
from p2pfl.spec import with_options
from p2pfl.work import AggregationJob, EvaluationJob, NotFinite
from tests.support.core import ballot, chain_of, member, model, of_kind, options, sent, status, told, training
from tests.support.device import Device, chain_digest, in_run, joined, where
from tests.support.known import known
from tests.support.records import (
    CARD,
    NAMES,
    SCHEMA,
    digest,
    evaluation,
    node,
    resigned,
    result_of,
    signed,
    update,
)

# --- the driver's side ------------------------------------------------------------------------------------------


def test_an_empty_directory_begins_by_asking_the_worker_for_the_task() -> None:
    device = Device()
    assert of_kind(device.began, Describe) == [Describe(options().spec)]
    assert device.node.ledger is None


def test_there_is_always_a_deadline_so_nothing_depends_on_a_message() -> None:
    device = Device()
    assert known(device.node.deadline()) <= 101.0
    device.node.tick(101.0)
    assert known(device.node.deadline()) <= 102.0


def test_a_node_whose_operator_holds_the_start_waits_for_its_word_until_it_is_given() -> None:
    device = Device(wait=True)
    device.link("ben", "cleo")
    device.describe()
    assert device.node.status().waiting
    assert device.node.waits_because == held_start("ada")
    device.feed(inputs.Go())
    assert not device.node.status().waiting
    assert device.node.status().choice == 1


def test_who_founds_a_run_knows_the_schema_of_its_model() -> None:
    device = Device(min_nodes=1)
    device.describe()
    (create,) = of_kind(device.node.tick(device.now + 60.0), Create)
    device.feed(inputs.Created(create.spec, create.agreement, digest("initial"), SCHEMA), 61.0)
    assert device.ledger.schema == SCHEMA


def test_in_no_run_there_is_nothing_to_steer_and_in_one_there_is() -> None:
    assert Device().node.objection("pause") == "this node is in no run yet"
    assert in_run(chain_of(*NAMES[:3], rounds=1)).node.objection("pause") == ""


def test_a_node_says_how_many_it_wants_before_a_run_begins() -> None:
    device = Device()
    device.feed(inputs.Expect(5, 6))
    assert device.node.status().min_nodes == 5
    device.link("ben", "cleo", "dan", "eve")
    assert not device.node.status().complete, "six are listed"
    device.feed(inputs.Expect(5, 5))
    assert device.node.status().complete


def test_in_a_run_nothing_is_said_of_options_or_of_who_waits() -> None:
    device = in_run(chain_of(*NAMES[:3], rounds=1), given=frozenset({"rounds"}))
    said = device.node.status()
    assert (said.given, said.choice, said.complete) == ((), 0, False)
    assert device.node.waits_because is None
    waiting = Device(given=frozenset({"rounds"}))
    assert [option.name for option in waiting.node.status().given] == ["rounds"]


def test_what_the_worker_answers_when_the_run_is_gone_changes_nothing() -> None:
    chain, update_ = chain_of(*NAMES[:3]), update("ada", 1)
    job = training(chain, 1, chain.genesis.model)
    results: list[inputs.AnyInput] = [
        inputs.BlobProgress(update_.digest),
        inputs.TrainProgress(job, 1, 2, 3.0),
        inputs.WorkFailed(Train(job), "no memory"),
        inputs.Trained(job, result_of("ada", 1)),
        inputs.Evaluated(
            EvaluationJob(chain.run, 1, chain.genesis.spec, chain.genesis.agreement, job.model, 0, 3),
            evaluation(8, 10, 2.0),
        ),
        inputs.Aggregated(
            AggregationJob(chain.run, 1, ballot(1, "ada"), chain.genesis.spec, job.model, ()), NotFinite()
        ),
    ]
    device = Device()
    assert [device.feed(result) for result in results] == [[]] * len(results)


def test_an_exit_is_the_last_thing_a_node_asks_for() -> None:
    device = Device()
    assert of_kind(device.feed(inputs.Leave()), Exit)
    assert device.node.deadline() is None
    assert device.link("ben") == []
    assert device.node.tick(200.0) == []


def test_a_new_link_hears_the_status_at_once() -> None:
    device = Device()
    assert sent(device.link("ben"), Status)[0].run == ""


def test_an_older_status_does_not_replace_a_newer_one() -> None:
    device = Device()
    device.link("ben")
    device.hear("ben", status(steps=5, min_nodes=4))
    device.hear("ben", status(steps=4, min_nodes=2))
    assert known(device.node._ctx.peers[node("ben")].status).min_nodes == 4


# --- resuming ---------------------------------------------------------------------------------------------------


def test_a_restart_reloads_the_promise_and_refuses_lower_ballots() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    votes = {chain.run: Vote(2, ballot(5, "cleo"), None, None)}
    device = in_run(chain, votes=votes)
    device.link("ben")
    answer = device.hear("ben", Prepare(chain.run, 2, ballot(4, "ben")))
    (refusal,) = sent(answer, Refuse)
    assert refusal.promised >= ballot(5, "cleo")
    assert sent(answer, Promise) == []


def test_a_restart_never_resumes_its_own_old_ballot() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    device = in_run(chain, votes={chain.run: Vote(2, ballot(5, "ada"), None, None)})
    effects = device.link("ben", "cleo")
    effects += device.node.tick(100.5) + device.node.tick(103.0)  # a restarted member listens first
    (prepare, *_) = sent(effects, Prepare)
    assert prepare.ballot == ballot(6, "ada")


def test_a_restart_offers_the_update_it_had() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    device = in_run(chain, update=update("ada", 2))
    assert told(device.began, events.UpdateReused)


def test_a_model_that_no_longer_fits_the_run_ends_the_node() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    saved = SavedRun(chain.run, chain.genesis, chain.commits[-1], None, resumed=False)
    device = Device(Saved(saved, {}, frozenset()))
    mine = canonical([TensorSpec("weight", "F32", (9,)), TensorSpec("steps", "I64", ())])
    (read,) = of_kind(device.describe(chain.genesis.spec, schema=mine), ReadSchema)
    assert read.digest == chain.commits[-1].record.model
    (end,) = of_kind(device.feed(inputs.SchemaRead(read.layout, SCHEMA)), Exit)
    assert end.code == ExitCode.UNFIT
    assert "weight F32[2,3] there is weight F32[9] here" in end.reason


def test_a_schema_that_was_read_for_an_offered_run_says_why_it_is_declined() -> None:
    chain = chain_of(*NAMES[:3])
    device = Device()
    device.link("ben")
    device.describe()
    device.hear("ben", Offer(chain.genesis))
    mine = canonical([TensorSpec("weight", "F32", (9,)), TensorSpec("steps", "I64", ())])
    (read,) = of_kind(device.describe(chain.genesis.spec, mine), ReadSchema)
    effects = device.feed(inputs.SchemaRead(read.layout, SCHEMA))
    assert [
        "weight F32[2,3] there is weight F32[9] here" in said.reason for said in sent(effects, Decline)
    ] == [True]
    assert of_kind(effects, Exit) == []


def test_a_peer_with_another_record_of_the_last_round_is_asked_for_the_commit_behind_it_once() -> None:
    device = in_run(chain_of(*NAMES[:3], rounds=2))
    device.link("ben")
    said = status(run=device.ledger.run, round=2, record=model("another"), steps=1)
    asked = [
        sent(device.hear("ben", msgspec.structs.replace(said, steps=steps)), RecordsRequest)
        for steps in (1, 2)
    ]
    assert asked == [[RecordsRequest(device.ledger.run, 1)], []]


# --- rounds that are not open -----------------------------------------------------------------------------------


def test_a_message_of_a_decided_round_is_answered_with_the_records() -> None:
    chain = chain_of(*NAMES[:3], rounds=3)
    device = in_run(chain)
    device.link("ben")
    answer = device.hear("ben", Prepare(chain.run, 2, ballot(9, "ben")))
    assert of_kind(answer, SendRecords) == [SendRecords(node("ben"), chain.run, 1)]
    assert sent(answer, Promise) == []


def test_a_message_of_a_later_round_makes_the_node_ask() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    device = in_run(chain)
    device.link("ben")
    assert sent(device.hear("ben", Prepare(chain.run, 4, ballot(1, "ben"))), RecordsRequest) == [
        RecordsRequest(chain.run, 1)
    ]


def test_a_peer_that_is_further_is_asked_for_what_is_missing_and_believed_in_order() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    device = in_run(chain)
    device.link("ben")
    chain.commit()
    chain.commit()
    assert sent(device.hear("ben", where(chain)), RecordsRequest) == [RecordsRequest(chain.run, 1)]
    effects = device.hear("ben", Records(chain.run, None, tuple(chain.commits[1:])))
    assert [save.commit for save in of_kind(effects, SaveCommit)] == chain.commits[1:]
    assert of_kind(effects, Fetch)[-1].digest == chain.commits[-1].record.model


def test_a_commit_that_is_not_proved_is_not_taken_and_the_peer_is_named() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    device = in_run(chain)
    device.link("ben")
    bare = resigned(chain.commit(), "ben")
    effects = device.hear("ben", bare)
    assert of_kind(effects, SaveCommit) == []
    (notice,) = told(effects, events.Notice)
    assert notice.text.startswith("record 2 from ben is not believed: 1 members")


def test_an_ask_is_answered_by_whoever_is_in_the_run() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    device = in_run(chain)
    device.link("dan")
    assert of_kind(device.hear("dan", RecordsRequest(chain.run, -1)), SendRecords) == [
        SendRecords(node("dan"), chain.run, -1)
    ]
    assert of_kind(device.hear("dan", RecordsRequest(model("another run"), -1)), SendRecords) == []


def test_nobody_runs_for_election_in_anothers_name() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    device = in_run(chain)
    device.link("ben")
    assert sent(device.hear("ben", Prepare(chain.run, 2, ballot(9, "cleo"))), Promise) == []


def test_a_commit_is_told_before_blobs_are_let_go_of() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    device = in_run(chain)
    effects = device.link("ben", "cleo") + device.node.tick(100.5) + device.node.tick(103.0)
    mine = known(known(device.node._running).aggregator.ballot)
    effects = device.hear("ben", Promise(chain.run, 2, mine, None, None, signed("ben", chain.run, 2, mine)))
    effects += device.feed(inputs.WorkFailed(Train(training(chain, 2, device.ledger.model)), "out of memory"))
    for name in ("ben", "cleo"):
        effects += device.hear(name, Submit(chain.run, 2, mine, chain_digest(chain), None, "no data", None))
    record = sent(effects, Accept)[0].record
    device.feed(inputs.BlobReady(record.model, durable=True))
    vote = signed("ben", chain.run, 2, mine, record_digest(record), votes=2)
    effects = device.hear("ben", Accepted(chain.run, 2, mine, record_digest(record), vote))
    assert [type(effect) for effect in effects].count(DeleteUnneededBlobs) == 1
    assert isinstance(effects[-1], DeleteUnneededBlobs)
    assert sent(effects[:-1], Commit)


# --- entering a run ---------------------------------------------------------------------------------------------


def test_record_0_is_taken_once_schema_and_model_are_here() -> None:
    chain = chain_of(*NAMES[:3])
    device, effects = joined(chain)
    assert of_kind(effects, SaveGenesis) == [SaveGenesis(chain.run, chain.genesis)]
    assert device.ledger.round == 0
    assert device.ledger.holds


def test_a_member_of_a_run_that_too_few_can_take_part_in_leaves_it_without_declining_it() -> None:
    chain = chain_of(*NAMES[:3])
    device, _ = joined(chain)
    for name in ("ben", "cleo"):
        device.hear(name, Decline(chain.run, "its model differs"))
    device.now += 2 * device.node._ctx.settings.steady
    effects = device.node.tick(device.now)
    assert device.node.ledger is None
    texts = [notice.text for notice in told(effects, events.Notice)]
    assert any("cannot begin and is given up: only 1 of its members can take part" in text for text in texts)
    assert sent(effects, Decline) == []  # only its founder declines it for everybody


def test_record_0_is_not_taken_with_a_model_that_a_power_cut_would_take() -> None:
    chain = chain_of(*NAMES[:3])
    device = Device()
    device.link("ben", "cleo")
    device.describe()
    device.hear("ben", Offer(chain.genesis))
    device.describe(chain.genesis.spec)
    assert of_kind(device.feed(inputs.BlobReady(chain.genesis.model, durable=False)), SaveGenesis) == []
    assert device.node.ledger is None


def test_what_a_peer_says_of_its_device_is_told_and_changes_nothing() -> None:
    device = Device()
    device.link("ben")
    before = device.node.status()
    device_info = DeviceInfo("0.1.0", "Linux x86_64", 4, 8 * 2**30, "cuda", CARD)
    assert told(device.hear("ben", device_info), events.PeerDeviceInfo) == [
        events.PeerDeviceInfo(node("ben"), "ben", "0.1.0", "Linux x86_64", 4, 8 * 2**30, "cuda", CARD)
    ]
    assert device.node.status() == before


def test_people_call_a_node_by_its_name_and_an_unknown_one_by_its_id() -> None:
    device = Device()
    device.link("ben")
    assert [device.node.name_of(node(name)) for name in ("ada", "ben", "dan")] == [
        "ada",
        "ben",
        node("dan")[:7],
    ]


# --- what one peer may say ---------------------------------------------------------------------------------------


def test_the_device_info_of_a_peer_is_reported_when_it_changes() -> None:
    device = Device()
    device.link("ben")
    device_info = DeviceInfo("0.1.0", "Linux", 2, 2**30, "cpu", CARD)
    heard = [
        device.hear("ben", one)
        for one in (device_info, device_info, msgspec.structs.replace(device_info, part=None))
    ]
    assert [len(told(effects, events.PeerDeviceInfo)) for effects in heard] == [1, 0, 1]


def test_an_extension_is_told_with_who_wants_it() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    chain.commit(kind="evaluate", then="end")
    device = in_run(chain)
    device.link("ben")
    said = status(run=chain.run, round=2, record=record_digest(chain.commits[-1].record), rounds=30)
    effects = device.hear("ben", said)
    assert told(effects, events.RunExtended) == [events.RunExtended(30, "ben")]


# --- what strangers say of themselves ---------------------------------------------------------------------------


def test_a_finished_run_is_extended_by_a_member_and_by_nobody_else() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    chain.commit(kind="evaluate", then="end")
    device = in_run(chain)
    device.link("ben", "eve")
    more = where(chain, rounds=50)
    device.hear("eve", more)
    assert device.ledger.is_over
    device.hear("ben", more)
    assert not device.ledger.is_over


def test_what_data_this_node_has_is_told_to_everybody_and_to_each_new_peer() -> None:
    device = Device()
    device.link("ben")
    assert sent(device.describe(), Card) == [Card(CARD)]
    assert sent(device.describe(), Card) == []
    effects = device.feed(inputs.Linked(member("cleo"), "cleo"))
    (card, said) = [effect.message for effect in of_kind(effects, Send)][:2]
    assert (card, type(said)) == (Card(CARD), Status)


def test_a_node_started_again_with_other_data_ends_before_it_trains() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    saved = SavedRun(chain.run, chain.genesis, chain.commits[-1], None, resumed=False)
    device = Device(Saved(saved, {}, frozenset()))
    device.feed(inputs.BlobReady(device.ledger.model, durable=True))
    fewer = DataCard("digits", 1000, CARD.labels[:-1])
    effects = device.describe(chain.genesis.spec, card=fewer)
    (exit_,) = of_kind(effects, Exit)
    assert exit_.code == 2
    assert exit_.reason.endswith("its data lack the class '9' of the run")
    assert (of_kind(effects, Train), sent(effects, Card)) == ([], [])


def test_bytes_that_come_are_progress_of_the_candidate_whose_model_they_are() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    device = in_run(chain)
    device.link("ben")
    proposal = chain.commit(model=model("average")).record
    device.hear("ben", Accept(chain.run, 2, ballot(2, "ben"), proposal))
    acceptor = known(device.node._running).acceptor
    until = known(acceptor.lease).until(60.0)
    device.feed(inputs.BlobProgress(model("another")), seconds=5.0)
    assert known(acceptor.lease).until(60.0) == until
    device.feed(inputs.BlobProgress(proposal.model), seconds=5.0)
    assert known(acceptor.lease).until(60.0) == until + 10.0


def test_a_worker_that_cannot_do_the_run_s_task_any_more_ends_the_node_and_another_task_does_not() -> None:
    device = in_run(chain_of(*NAMES[:3], rounds=1))
    spec = device.ledger.spec
    other = with_options(spec, epochs=7)
    device.node._ctx.options = msgspec.structs.replace(device.node._ctx.options, spec=spec)
    assert of_kind(device.feed(inputs.WorkFailed(Describe(other), "no such data")), Exit) == []
    (end,) = of_kind(device.feed(inputs.WorkFailed(Describe(spec), "no such data")), Exit)
    assert (end.code, end.reason) == (ExitCode.UNFIT, "no such data")
