"""The checker passes each effect on to the right checker, and knows where models must be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.core.effects import (
    Aggregate,
    AnyEffect,
    DeleteUnneededBlobs,
    SaveAccepted,
    SaveCommit,
    SaveGenesis,
    SavePromise,
    Send,
    Train,
)
from p2pfl.messages import Collect, LeftOut, Member, Promise
from p2pfl.sim.checker import InvariantChecker
from p2pfl.sim.disk import Disk
from p2pfl.sim.violation import Violation
from p2pfl.work import AggregationJob, WeightedUpdate
from tests.support.core import ballot, chain_of, member, training
from tests.support.records import NAMES, STATEFUL, node, signed


class Court:
    """A checker over three disks that have record 0."""

    def __init__(self) -> None:
        self.chain = chain_of(*NAMES[:3])
        self.run = self.chain.run
        self.disks = {name: Disk(member(name)) for name in NAMES[:3]}
        self.checker = InvariantChecker(self.disks.values)
        for name in self.disks:
            self.save(name, SaveGenesis(self.run, self.chain.genesis))
            self.disks[name].blobs.add(self.chain.genesis.model)
        commit = self.chain.commit()
        left_out = tuple(LeftOut(node(name), "late") for name in NAMES[:3])
        self.record = msgspec.structs.replace(
            commit.record, updates=(), left_out=left_out, blobs=self.chain.genesis.blobs
        )
        self.commit = msgspec.structs.replace(commit, record=self.record)
        for name in self.disks:
            self.save(name, SavePromise(self.run, 1, ballot(1, "ada"), 1))

    def save(self, name: Any, effect: Any) -> None:
        self.disks[name].save(effect)
        self.checker.saved(self.disks[name], effect)

    def done(self, name: str, effect: AnyEffect | DeleteUnneededBlobs) -> None:
        self.checker.done(self.disks[name], name, effect)

    def accept(self, name: str) -> None:
        self.disks[name].blobs.add(self.record.model)
        self.save(name, SaveAccepted(self.run, 1, ballot(1, "ada"), self.record, 1))


@pytest.fixture
def court() -> Court:
    return Court()


def test_an_acceptance_without_the_model_violates_possession(court: Court) -> None:
    court.disks["ada"].blobs.clear()
    with pytest.raises(Violation, match=r"possession: .* whose blobs it does not hold"):
        court.save("ada", SaveAccepted(court.run, 1, ballot(1, "ada"), court.record, 1))


def test_who_asks_whom_for_an_update_is_noted(court: Court) -> None:
    court.done("ada", Send(node("ben"), Collect(court.run, 1, ballot(1, "ada"), selected=True)))
    assert court.checker.work.asked == {(court.run, 1): {node("ada"), node("ben")}}


def test_the_blob_of_an_open_vote_must_not_be_collected(court: Court) -> None:
    court.accept("ada")
    court.disks["ada"].blobs.clear()
    with pytest.raises(Violation, match=r"possession: .* collected a blob it accepted"):
        court.done("ada", DeleteUnneededBlobs(frozenset()))


def test_a_journal_that_was_put_back_may_name_a_model_that_was_collected_long_ago(court: Court) -> None:
    court.accept("ada")
    court.checker.lost(member("ada"))
    court.disks["ada"].blobs.clear()
    court.done("ada", DeleteUnneededBlobs(frozenset()))


def test_a_decided_model_must_stay_on_a_quorum(court: Court) -> None:
    court.accept("ada")
    court.accept("ben")
    court.save("ada", SaveCommit(court.run, court.commit, 1.0))
    court.disks["ada"].blobs.clear()
    with pytest.raises(Violation, match=r"possession: the model of round 1 is durable on 1 members, 2"):
        court.done("ada", DeleteUnneededBlobs(frozenset()))


def test_a_lost_disk_is_no_fault_of_the_others(court: Court) -> None:
    court.accept("ada")
    court.accept("ben")
    court.checker.lost(member("ben"))
    court.disks["ben"] = Disk(member("ben", "another"))
    court.save("ada", SaveCommit(court.run, court.commit, 1.0))
    court.done("ada", DeleteUnneededBlobs(frozenset({court.record.model})))
    assert member("ben") in court.checker.votes.gone


def test_votes_and_work_are_judged_as_well(court: Court) -> None:
    court.save("ada", SavePromise(court.run, 1, ballot(2, "ben"), 1))
    with pytest.raises(Violation, match="monotone"):
        court.save("ada", SavePromise(court.run, 1, ballot(1, "ben"), 1))
    vote = signed("ben", court.run, 1, ballot(9, "ada"))
    with pytest.raises(Violation, match="durability"):
        court.done("ben", Send(node("ada"), Promise(court.run, 1, ballot(9, "ada"), None, None, vote)))
    court.done("ben", Train(training(court.chain, 1, court.chain.genesis.model)))


def test_the_rosters_that_matter_are_those_of_the_last_records_and_of_the_next(court: Court) -> None:
    assert court.checker.latest() == []
    court.accept("ada")
    court.accept("ben")
    assert court.checker.latest() == [court.chain.genesis.roster, court.record.roster]
    assert court.checker.rounds == 1


def test_a_job_reads_only_blobs_that_are_here_unless_the_disk_lost_their_bytes() -> None:
    damaged: set[tuple[Member, str]] = set()
    disk = Disk(member("ada"), blobs={"model"})
    checker = InvariantChecker(lambda: (disk,), damaged)
    chain = chain_of(*NAMES[:3], spec=STATEFUL)
    job = AggregationJob(
        chain.run, 1, ballot(1, "ada"), STATEFUL, "model", (WeightedUpdate("update", 1, control="control"),)
    )
    for missing in ("update", "control"):
        with pytest.raises(Violation, match=r"^possession: .* works in round 1 on a blob it lacks"):
            checker.done(disk, "ada", Aggregate(job))
        disk.unflushed.add(missing)
    checker.done(disk, "ada", Aggregate(job))
    later = Aggregate(msgspec.structs.replace(job, state="state"))
    with pytest.raises(Violation, match="on a blob it lacks"):
        checker.done(disk, "ada", later)
    damaged.add((disk.member, "state"))
    checker.done(disk, "ada", later)
