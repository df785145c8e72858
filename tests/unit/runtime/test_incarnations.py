from __future__ import annotations

import pytest

from p2pfl.errors import DataDirectoryError, HandshakeRefused
from p2pfl.messages import Member
from p2pfl.proofs import CastVote, Claim, JournalEvidence, sign_claim
from p2pfl.runtime.incarnations import Incarnations
from tests.support.core import ballot, member
from tests.support.keys import signer
from tests.support.records import digest, signed

BEN = member("ben")
CLAIM = sign_claim(signer("ben"), BEN, 3, "a" * 32, 5)
FULL = DataDirectoryError("the disk is full")


def cast(votes: int) -> CastVote:
    run, voted_for = digest("run"), ballot(2, "ada")
    return CastVote(run, 1, voted_for, "", signed("ben", run, 1, voted_for, votes=votes))


class Memory:
    """A journal's memory of other journals, on a disk that may be full."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.known: dict[Member, JournalEvidence] = {}
        self.asked = 0
        self._is_full = is_full

    def seen(self, member: Member) -> JournalEvidence | None:
        self.asked += 1
        return self.known.get(member)

    def save_claim(self, member: Member, claim: Claim) -> None:
        if self._is_full:
            raise FULL
        self.known[member] = JournalEvidence(claim)


def fail(error: DataDirectoryError) -> None:
    pytest.fail(str(error))


def test_starts_are_remembered_by_the_journal_which_is_asked_once() -> None:
    memory = Memory()
    incarnations = Incarnations(memory, lambda _: None, fail=fail)
    assert incarnations.seen(BEN) is None
    incarnations.save_claim(BEN, CLAIM)
    assert memory.known == {BEN: JournalEvidence(CLAIM)}
    asked = memory.asked
    assert incarnations.seen(BEN) == incarnations.seen(BEN) == JournalEvidence(CLAIM)
    assert memory.asked == asked


def test_a_vote_counts_before_it_is_on_disk() -> None:
    votes = {BEN: cast(4)}
    incarnations = Incarnations(Memory(), votes.get, fail=fail)
    assert incarnations.seen(BEN) == JournalEvidence(None, cast(4))
    incarnations.save_claim(BEN, CLAIM)
    votes[BEN] = cast(9)
    assert incarnations.seen(BEN) == JournalEvidence(CLAIM, cast(9))


def test_what_the_journal_knew_before_this_start_stays_beside_a_new_claim() -> None:
    memory = Memory()
    memory.known[BEN] = JournalEvidence(None, cast(9))
    incarnations = Incarnations(memory, lambda _: None, fail=fail)
    assert incarnations.seen(BEN) == JournalEvidence(None, cast(9))
    incarnations.save_claim(BEN, CLAIM)
    assert incarnations.seen(BEN) == JournalEvidence(CLAIM, cast(9))


def test_a_disk_that_refuses_ends_the_node_and_not_the_mesh() -> None:
    failures: list[DataDirectoryError] = []
    incarnations = Incarnations(Memory(is_full=True), lambda _: None, failures.append)
    with pytest.raises(HandshakeRefused, match="so it accepts no links and ends"):
        incarnations.save_claim(BEN, CLAIM)
    assert failures == [FULL]
