"""The judge must object to every way of breaking an invariant: here each one is shown to it by hand."""

import msgspec
import pytest

from p2pfl.core.effects import (
    Collect,
    SaveAccepted,
    SaveCommit,
    SaveFounding,
    SavePromise,
    SaveUpdate,
    Send,
    Train,
)
from p2pfl.messages import Accepted, Promise, record_digest
from p2pfl.sim.checker import Checker, Violation
from p2pfl.sim.device import average_of
from p2pfl.sim.disk import Disk
from tests.support.core import ballot, chain_of, member, model
from tests.support.records import NAMES, node, roster, update


class Court:
    """A judge over three disks that have record 0."""

    def __init__(self):
        self.chain = chain_of(*NAMES[:3])
        self.run = self.chain.run
        self.checker = Checker()
        self.disks = {name: Disk(member(name)) for name in NAMES[:3]}
        for name in self.disks:
            self.show(name, SaveFounding(self.run, self.chain.founding))

    def show(self, name, effect):
        disk = self.disks[name]
        self.checker.before(disk, effect)
        if isinstance(effect, SavePromise | SaveAccepted | SaveCommit | SaveFounding | SaveUpdate):
            disk.save(effect)
        self.checker.after(disk, effect)

    def value(self, word):
        """A record without updates that may be decided in round 1."""
        record = self.chain.commit(model=model(word)).record
        self.chain.commits.pop()
        return msgspec.structs.replace(record, updates=())

    def accept(self, name, record, attempt=1, proposer="ada"):
        self.disks[name].blobs.add(record.model)
        self.show(name, SaveAccepted(self.run, 1, ballot(attempt, proposer), record))


@pytest.fixture
def court():
    return Court()


def test_a_quorum_in_one_ballot_chooses_and_fewer_do_not(court):
    record = court.value("average")
    court.accept("ada", record)
    assert court.checker.chosen == {}
    court.accept("ben", record)
    assert court.checker.chosen == {(court.run, 1): record_digest(record)}


def test_acceptances_in_different_ballots_do_not_add_up(court):
    record = court.value("average")
    court.accept("ada", record)
    court.accept("ben", record, attempt=2, proposer="ben")
    assert court.checker.chosen == {}


def test_two_records_chosen_for_one_round_violate_agreement(court):
    first, second = court.value("first"), court.value("second")
    court.accept("ada", first)
    court.accept("ben", first)
    court.accept("ben", second, attempt=2, proposer="cleo")
    with pytest.raises(Violation, match="agreement: two records chosen for round 1"):
        court.accept("cleo", second, attempt=2, proposer="cleo")


def test_a_commit_that_was_not_chosen_violates_agreement(court):
    with pytest.raises(Violation, match="that is not chosen"):
        court.show("ada", SaveCommit(court.run, court.chain.commit(), 1.0))


def test_a_commit_out_of_order_breaks_the_chain(court):
    court.chain.commit()
    with pytest.raises(Violation, match=r"chain: .* commits round 2 after 0"):
        court.show("ada", SaveCommit(court.run, court.chain.commit(), 1.0))


def test_one_ballot_with_two_values_is_a_violation(court):
    court.accept("ada", court.value("first"))
    with pytest.raises(Violation, match="a ballot with two values"):
        court.accept("ben", court.value("second"))


def test_a_promise_below_an_earlier_one_is_a_violation(court):
    court.show("ada", SavePromise(court.run, 1, ballot(2, "ben")))
    with pytest.raises(Violation, match="monotone"):
        court.show("ada", SavePromise(court.run, 1, ballot(1, "ben")))


def test_an_acceptance_below_a_promise_is_a_violation(court):
    court.show("ada", SavePromise(court.run, 1, ballot(2, "ben")))
    with pytest.raises(Violation, match="monotone"):
        court.accept("ada", court.value("average"))


def test_an_acceptance_without_the_model_violates_possession(court):
    with pytest.raises(Violation, match=r"possession: .* whose model it does not hold"):
        court.show("ada", SaveAccepted(court.run, 1, ballot(1, "ada"), court.value("average")))


def test_the_blob_of_an_open_vote_must_not_be_collected(court):
    record = court.value("average")
    court.accept("ada", record)
    court.disks["ada"].blobs.clear()
    with pytest.raises(Violation, match=r"possession: .* collected a blob it accepted"):
        court.show("ada", Collect(frozenset()))


def test_a_promise_sent_before_it_is_on_disk_violates_durability(court):
    promise = Promise(court.run, 1, ballot(1, "ben"), None, None)
    with pytest.raises(Violation, match=r"durability: .* sends a promise"):
        court.show("ada", Send(node("ben"), promise))
    court.show("ada", SavePromise(court.run, 1, ballot(1, "ben")))
    court.show("ada", Send(node("ben"), promise))


def test_an_acceptance_sent_before_it_is_on_disk_violates_durability(court):
    answer = Accepted(court.run, 1, ballot(1, "ben"), model("record"))
    court.show("ada", SavePromise(court.run, 1, ballot(1, "ben")))
    with pytest.raises(Violation, match=r"durability: .* sends an acceptance"):
        court.show("ada", Send(node("ben"), answer))


def counted(court, *updates, trained_for=1):
    """A record that averages *updates*, which were trained for round *trained_for*."""
    for entry in updates:
        court.checker.updates[entry.digest] = (court.run, trained_for, court.chain.founding.model)
    record = court.value("x")
    average = average_of(record.ballot, sorted(entry.digest for entry in updates))
    return msgspec.structs.replace(record, updates=updates, model=average)


def test_the_average_of_what_was_trained_for_the_round_is_fine(court):
    record = counted(court, update("ada", 1), update("ben", 1))
    court.accept("ada", record)
    court.accept("ben", record)
    assert court.checker.chosen


def test_a_late_update_counted_in_the_next_round_is_a_violation(court):
    with pytest.raises(Violation, match="counted in round 1"):
        court.accept("ada", counted(court, update("ada", 1), trained_for=0))


def test_an_update_counted_twice_is_a_violation(court):
    with pytest.raises(Violation, match="counted twice"):
        court.accept("ada", counted(court, update("ada", 1), update("ada", 1)))


def test_a_model_that_is_not_the_average_of_its_manifest_is_a_violation(court):
    record = msgspec.structs.replace(counted(court, update("ada", 1)), model=model("something else"))
    with pytest.raises(Violation, match="is not the average of its updates"):
        court.accept("ada", record)


def test_training_twice_for_one_parent_is_work_lost(court):
    train = Train(court.run, 1, court.chain.founding.spec, court.chain.founding.model, 0)
    court.show("ada", train)
    court.show("ada", SaveUpdate(court.run, 1, court.run, update("ada", 1)))
    court.show("ada", train)  # a power cut took the bytes: not its fault
    court.disks["ada"].passing.add(update("ada", 1).digest)
    with pytest.raises(Violation, match="work lost"):
        court.show("ada", train)


def test_a_roster_with_a_node_twice_is_a_violation(court):
    twice = msgspec.structs.replace(court.chain.founding, roster=roster("ada") * 2)
    with pytest.raises(Violation, match="two entries of one node"):
        court.show("ada", SaveFounding(record_digest(twice), twice))
