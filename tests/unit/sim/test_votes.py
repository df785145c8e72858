"""The vote checker must find every violation of its invariants: each one is shown to it directly."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.core.effects import SaveAccepted, SaveCommit, SaveGenesis, SavePromise
from p2pfl.messages import Accepted, Ballot, Commit, Promise, Record, RosterEntry, record_digest
from p2pfl.sim.disk import Disk
from p2pfl.sim.violation import Violation
from p2pfl.sim.votes import VoteChecker
from tests.support.core import ballot, chain_of, member, model
from tests.support.records import NAMES, roster, signed


class Court:
    """The checker over three disks that have record 0."""

    def __init__(self) -> None:
        self.chain = chain_of(*NAMES[:3])
        self.run = self.chain.run
        self.votes = VoteChecker()
        self.disks = {name: Disk(member(name)) for name in NAMES[:3]}
        for disk in self.disks.values():
            self.save(disk, SaveGenesis(self.run, self.chain.genesis), self.votes.founded)

    def save(self, disk: Any, effect: Any, check: Any) -> None:
        disk.save(effect)
        check(effect) if isinstance(effect, SaveGenesis) else check(disk, effect)

    def value(self, word: str, **changes: tuple[RosterEntry, ...]) -> Record:
        """A record that may be decided in round 1."""
        record = self.chain.commit(model=model(word)).record
        self.chain.commits.pop()
        return msgspec.structs.replace(record, updates=(), **changes)

    def promise(self, name: str, vote: Ballot, round_: int = 1) -> None:
        self.save(self.disks[name], SavePromise(self.run, round_, vote, 1), self.votes.promised)

    def accept(self, name: str, record: Record, vote: Ballot | None = None) -> None:
        effect = SaveAccepted(self.run, 1, vote or ballot(1, "ada"), record, 1)
        self.save(self.disks[name], effect, self.votes.accepted)

    def elect(self, vote: Ballot, *names: str) -> None:
        """Let *names* promise *vote*; its proposer, if among them, runs for election with it."""
        for name in names or self.disks:
            self.promise(name, vote)

    def commit(self, name: str, commit: Commit) -> None:
        self.save(self.disks[name], SaveCommit(self.run, commit, 1.0), self.votes.committed)


@pytest.fixture
def court() -> Court:
    made = Court()
    made.elect(ballot(1, "ada"))
    return made


def objection(kind: str, match: str) -> Any:
    return pytest.raises(Violation, match=f"^{kind}: .*{match}")


def test_a_quorum_in_one_ballot_chooses_and_fewer_do_not(court: Court) -> None:
    record = court.value("average")
    court.accept("ada", record)
    assert court.votes.chosen == {}
    court.accept("ben", record)
    assert court.votes.chosen_digest(court.run, 1) == record_digest(record)
    assert court.votes.last == {court.run: 1}


def test_acceptances_in_different_ballots_do_not_add_up(court: Court) -> None:
    record = court.value("average")
    court.accept("ada", record)
    court.elect(ballot(2, "ben"))
    court.accept("ben", record, ballot(2, "ben"))
    assert court.votes.chosen == {}


def test_one_who_is_not_in_the_roster_does_not_count(court: Court) -> None:
    record = court.value("average")
    court.accept("ada", record)
    stranger = Disk(member("dan"))
    court.save(stranger, SaveAccepted(court.run, 1, ballot(1, "ada"), record, 1), court.votes.accepted)
    assert court.votes.chosen == {}


def test_two_records_chosen_for_one_round_violate_agreement(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = court.value("first"), court.value("second")
    court.accept("ada", first)
    court.accept("ben", first)
    # Nothing gets as far as this while it is checked earlier that the second value may be proposed at all.
    monkeypatch.setattr(VoteChecker, "_check_adoption", lambda *_: None)
    court.accept("ben", second, ballot(2, "cleo"))
    with objection("agreement", "two records chosen for round 1"):
        court.accept("cleo", second, ballot(2, "cleo"))


def test_a_commit_that_was_not_chosen_violates_agreement(court: Court) -> None:
    with objection("agreement", "that is not chosen"):
        court.commit("ada", court.chain.commit())


def test_a_commit_out_of_order_breaks_the_chain(court: Court) -> None:
    first = court.chain.commit()
    for name in ("ada", "ben"):
        court.accept(name, first.record)
    court.commit("ada", first)
    with objection("chain", "commits round 1 after 1"):
        court.commit("ada", first)


def test_one_ballot_with_two_values_is_a_violation(court: Court) -> None:
    court.accept("ada", court.value("first"))
    with objection("ballot", "with two values"):
        court.accept("ben", court.value("second"))


# --- adoption -----------------------------------------------------------------------------------------------


def test_an_own_value_where_another_may_be_decided_violates_agreement(court: Court) -> None:
    court.accept("ada", court.value("first"))
    court.accept("ben", court.value("first"))
    court.elect(ballot(2, "cleo"), "ben", "cleo")
    with objection("agreement", "carries a value of its own"):
        court.accept("cleo", court.value("second"), ballot(2, "cleo"))


def test_the_value_of_the_highest_ballot_may_be_proposed_again(court: Court) -> None:
    court.accept("ada", court.value("first"))
    court.elect(ballot(2, "ben"), "ben", "cleo")
    court.accept("ben", court.value("second"), ballot(2, "ben"))
    court.elect(ballot(3, "cleo"))
    court.accept("cleo", court.value("second"), ballot(3, "cleo"))


def test_a_value_that_a_later_one_replaced_may_not_be_proposed_again(court: Court) -> None:
    court.accept("ada", court.value("first"))
    court.elect(ballot(2, "ben"), "ben", "cleo")
    court.accept("ben", court.value("second"), ballot(2, "ben"))
    court.accept("cleo", court.value("second"), ballot(2, "ben"))
    court.elect(ballot(3, "cleo"))
    with objection("agreement", "carries a value of its own"):
        court.accept("cleo", court.value("first"), ballot(3, "cleo"))


def test_an_own_value_is_free_where_a_quorum_has_accepted_nothing(court: Court) -> None:
    court.accept("ada", court.value("first"))
    court.elect(ballot(2, "cleo"), "ben", "cleo")
    court.accept("cleo", court.value("second"), ballot(2, "cleo"))


def test_a_value_nobody_elected_the_proposer_for_is_none(court: Court) -> None:
    with objection("agreement", "carries a value of its own"):
        court.accept("cleo", court.value("second"), ballot(2, "cleo"))


# --- promises -----------------------------------------------------------------------------------------------


def test_a_promise_below_an_earlier_one_is_a_violation(court: Court) -> None:
    court.promise("ada", ballot(2, "ben"))
    with objection("monotone", "votes for ballot 1 of"):
        court.promise("ada", ballot(1, "ben"))


def test_an_acceptance_below_a_promise_is_a_violation(court: Court) -> None:
    court.promise("ada", ballot(2, "ben"))
    with objection("monotone", ""):
        court.accept("ada", court.value("average"))


def test_a_vote_in_an_earlier_round_is_a_violation_though_the_disk_forgot(court: Court) -> None:
    court.promise("ada", ballot(1, "ben"), round_=2)
    court.disks["ada"] = Disk(member("ada"))
    with objection("monotone", "in round 1 after"):
        court.promise("ada", ballot(5, "ben"), round_=1)


def test_a_member_runs_with_each_ballot_once(court: Court) -> None:
    court.promise("ada", ballot(2, "ada"))
    with objection("ballot", "never resumed"):
        court.promise("ada", ballot(2, "ada"))


def test_the_same_promise_to_another_may_be_given_again(court: Court) -> None:
    court.promise("ada", ballot(2, "ben"))
    court.promise("ada", ballot(2, "ben"))
    assert court.disks["ada"].votes[court.run].promised == ballot(2, "ben")


def test_who_lost_its_disk_votes_no_more(court: Court) -> None:
    court.votes.gone.add(member("ada"))
    with objection("identity", "has lost its promises"):
        court.promise("ada", ballot(1, "ben"))


def test_a_promise_sent_before_it_is_on_disk_violates_durability(court: Court) -> None:
    disk = court.disks["ada"]
    vote = signed("ada", court.run, 1, ballot(2, "ben"))
    promise = Promise(court.run, 1, ballot(2, "ben"), None, None, vote)
    with objection("durability", "sends a promise"):
        court.votes.sent(disk, promise)
    court.promise("ada", ballot(2, "ben"))
    court.votes.sent(disk, promise)


def test_an_acceptance_sent_before_it_is_on_disk_violates_durability(court: Court) -> None:
    vote = signed("ada", court.run, 1, ballot(2, "ben"), model("record"))
    answer = Accepted(court.run, 1, ballot(2, "ben"), model("record"), vote)
    court.promise("ada", ballot(2, "ben"))
    with objection("durability", "sends an acceptance"):
        court.votes.sent(court.disks["ada"], answer)


def test_a_roster_with_a_node_twice_is_a_violation(court: Court) -> None:
    twice = msgspec.structs.replace(court.chain.genesis, roster=roster("ada") * 2)
    with objection("roster", "two entries of one node"):
        court.votes.founded(SaveGenesis(record_digest(twice), twice))


def test_a_roster_with_a_slot_twice_is_a_violation(court: Court) -> None:
    ada, ben = roster("ada", "ben")
    with objection("roster", "two entries of one slot"):
        court.accept("ada", court.value("average", roster=(ada, msgspec.structs.replace(ben, slot=ada.slot))))
