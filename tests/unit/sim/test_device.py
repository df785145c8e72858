from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.core import inputs
from p2pfl.core.effects import Aggregate, SaveAccepted, SaveReport, Train
from p2pfl.messages import RecordBlobs
from p2pfl.sim.device import EVALUATION, Device, aggregate_of, evaluation_on
from p2pfl.sim.disk import Disk
from p2pfl.sim.driver_rules import DriverRules
from p2pfl.work import (
    AggregatedModel,
    AggregationJob,
    NotFinite,
    TrainingJob,
    WeightedUpdate,
)
from tests.support.core import ballot, chain_of, member, model, options
from tests.support.records import AGREEMENT, SCHEMA, STATEFUL, result_with


@pytest.fixture
def device() -> Any:
    return Device("ada", Disk(member("ada")), options())


def work(device: Device, effect: Aggregate | Train) -> Any:
    return device.work(effect, lambda: 0.5)


A, B = WeightedUpdate(model("a"), 100), WeightedUpdate(model("b"), 200)


def aggregated(device: Device, attempt: int, *updates: WeightedUpdate) -> Any:
    job = AggregationJob(
        model("run"), 1, ballot(attempt, "ada"), device.options.spec, model("parent"), updates
    )
    _, result = work(device, Aggregate(job))
    assert result.job == job
    return result.result.digest


def aggregate(parent: str, *updates: WeightedUpdate) -> str:
    return aggregate_of(options().spec, RecordBlobs(model(parent)), updates).model


def test_the_same_updates_give_the_same_model_in_every_ballot(device: Device) -> None:
    assert aggregated(device, 1, A, B) == aggregated(device, 2, A, B) == aggregate("parent", A, B)


def test_other_updates_another_order_or_another_parent_give_another_model(device: Device) -> None:
    found = {aggregated(device, 1, *updates) for updates in ((A, B), (B, A), (A,), (B,))}
    assert len(found | {aggregate("other", A, B)}) == 5


def test_a_slow_device_takes_as_many_times_longer(device: Device) -> None:
    train = Train(TrainingJob(model("run"), 1, device.options.spec, AGREEMENT, model("parent"), 0))
    usual, _ = work(device, train)
    device.slowness = 10.0
    slow, result = work(device, train)
    assert slow == pytest.approx(10 * usual)
    assert isinstance(result, inputs.Trained)
    assert result.result.seconds == slow


def test_every_start_has_another_nonce_and_is_counted(device: Device) -> None:
    nonces = set()
    for start in (1, 2, 3):
        device.start_process(0.0)
        assert device.process == device.disk.incarnation == device.hello.incarnation == start
        assert device.hello.journal == device.member.journal
        nonces.add(device.hello.nonce)
        device.crash()
    assert len(nonces) == 3


def test_a_lost_disk_is_empty_and_has_another_journal(device: Device) -> None:
    before = device.member
    device.disk.blobs.add(model("anything"))
    device.lose_disk()
    assert device.member.node == before.node
    assert device.member.journal != before.journal
    assert device.disk.blobs == set()


def test_without_the_habit_of_renewing_it_a_lost_disk_keeps_its_journal(device: Device) -> None:
    device.driver_rules = DriverRules(renews_journal=False)
    before = device.member
    device.lose_disk()
    assert device.member == before


def test_a_renewed_journal_leaves_the_blobs(device: Device) -> None:
    before = device.member
    device.disk.blobs.add(model("anything"))
    device.renew_journal()
    assert device.member.journal != before.journal
    assert device.disk.blobs == {model("anything")}


def test_a_clock_that_stood_still_is_behind(device: Any) -> None:
    device.lag = 40.0
    device.start_process(100.0)
    assert 60.0 <= device.node.deadline() < 100.0


def test_a_crash_takes_what_was_not_flushed(device: Any) -> None:
    device.start_process(0.0)
    device.unflushed.append(SaveReport(model("run"), 1, "a", EVALUATION))
    device.deferred.append(SaveReport(model("run"), 1, "a", EVALUATION))
    device.crash()
    assert (device.unflushed, device.deferred, device.is_up) == ([], [], False)


def test_what_reaches_a_suspended_process_waits(device: Device) -> None:
    done = []
    device.enter(lambda: done.append("at once"))
    device.inbox = []
    device.enter(lambda: done.append("later"))
    assert done == ["at once"]
    assert device.is_frozen
    device.inbox[0]()
    assert done == ["at once", "later"]


def test_a_workers_results_are_not_durable_but_for_the_initial_model(device: Device) -> None:
    training = TrainingJob(model("run"), 1, device.options.spec, AGREEMENT, model("parent"), 0)
    device.keep(inputs.Trained(training, result_with(model("update"))))
    job = AggregationJob(model("run"), 1, ballot(1, "ada"), device.options.spec, model("parent"), (A,))
    device.keep(inputs.Aggregated(job, AggregatedModel(model("aggregate"))))
    device.keep(inputs.Aggregated(job, NotFinite()))
    device.keep(inputs.Created(device.options.spec, AGREEMENT, model("initial"), SCHEMA))
    assert device.disk.unflushed == {model("update"), model("aggregate")}
    assert device.disk.blobs == {model("initial")}


def test_without_the_habit_of_sparing_it_the_blob_of_an_open_vote_is_collected(device: Device) -> None:
    chain = chain_of("ada", "ben", "cleo")
    record = chain.commit().record
    device.disk.save(SaveAccepted(chain.run, 1, ballot(1, "ben"), record, 1))
    device.disk.blobs = {record.model, model("other")}
    device.collect(frozenset({record.model}))
    assert device.disk.blobs == {record.model}
    device.driver_rules = DriverRules(spares_accepted=False)
    device.collect(frozenset({record.model}))
    assert device.disk.blobs == set()


def test_the_accuracy_of_a_model_is_drawn_from_it_and_is_the_same_each_time() -> None:
    drawn = [evaluation_on("ada", model(number)).sums["accuracy"] for number in range(50)]
    assert drawn == [evaluation_on("ada", model(number)).sums["accuracy"] for number in range(50)]
    assert (min(drawn), max(drawn)) == (0.0, 10.0)
    assert drawn != [evaluation_on("ben", model(number)).sums["accuracy"] for number in range(50)]


def test_with_a_state_the_model_follows_from_the_number_of_updates_and_the_state_from_all() -> None:
    parent = RecordBlobs(model("parent"), model("state"))
    one, other = (aggregate_of(STATEFUL, parent, updates) for updates in ([A, B], [B, A]))
    assert one.model == other.model
    assert one.state != other.state
    before = aggregate_of(STATEFUL, RecordBlobs(model("parent")), [A, B])
    assert (before.model == one.model, before.state == one.state) == (True, False)
    later = aggregate_of(STATEFUL, one, [A, B])
    assert (later.model == one.model, later.state == one.state) == (True, False)


def test_an_update_with_a_control_follows_from_state_and_memory(device: Device) -> None:
    job = TrainingJob(model("run"), 1, STATEFUL, AGREEMENT, model("parent"), 0)
    jobs = [job, *(msgspec.structs.replace(job, **{name: model("x")}) for name in ("state", "memory"))]
    results = [work(device, Train(one))[1].result for one in jobs]
    assert len({result.digest for result in results}) == len({result.control for result in results}) == 3
    device.keep(inputs.Trained(job, results[0]))
    assert device.disk.unflushed == {results[0].digest, results[0].control}
