"""What is signed is signed for one thing only, and every part of it counts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.identity.signatures import verify
from p2pfl.proofs import CastVote, Claim, JournalEvidence, accepted_by, casts_of, sign_claim
from tests.support.core import ballot, chain_of, member
from tests.support.keys import signer
from tests.support.records import NAMES, digest, journal, node, signed

RUN, RECORD = digest("run"), digest("record")
CAST = CastVote(RUN, 3, ballot(2, "ben"), RECORD, signed("ada", RUN, 3, ballot(2, "ben"), RECORD, votes=5))
CLAIM = sign_claim(signer("ada"), member("ada"), 4, "ab" * 16, 9)


def test_a_vote_is_valid_as_it_was_signed() -> None:
    assert CAST.is_valid(verify)


@pytest.mark.parametrize(
    "changes",
    [
        {"run": digest("another")},
        {"round": 4},
        {"ballot": ballot(3, "ben")},
        {"ballot": ballot(2, "cleo")},
        {"record": digest("another")},
        {"record": ""},
    ],
)
def test_a_vote_is_worth_nothing_for_anything_else(changes: dict[str, object]) -> None:
    assert not msgspec.structs.replace(CAST, **changes).is_valid(verify)


@pytest.mark.parametrize(
    "changes",
    [
        {"node": node("ben")},
        {"journal": journal("another")},
        {"votes": 6},
        {"key": signer("ben").key},
        {"key": b"no key"},
        {"signature": b"no signature"},
        {"signature": signed("ben", RUN, 3, ballot(2, "ben"), RECORD, votes=5).signature},
    ],
)
def test_a_vote_with_any_part_changed_is_worth_nothing(changes: dict[str, object]) -> None:
    vote = msgspec.structs.replace(CAST.vote, **changes)
    assert not msgspec.structs.replace(CAST, vote=vote).is_valid(verify)


def test_a_promise_is_no_acceptance_and_a_claim_is_no_vote() -> None:
    promise = signed("ada", RUN, 3, ballot(2, "ben"), votes=5)
    assert msgspec.structs.replace(CAST, record="", vote=promise).is_valid(verify)
    assert not msgspec.structs.replace(CAST, vote=promise).is_valid(verify)


@pytest.mark.parametrize(
    "changes", [{"journal": journal("another")}, {"incarnation": 5}, {"nonce": "cd" * 16}, {"votes": 8}]
)
def test_a_claim_with_any_part_changed_is_worth_nothing(changes: dict[str, object]) -> None:
    assert CLAIM.is_valid(node("ada"), verify)
    assert not CLAIM.is_valid(node("ben"), verify)
    assert not msgspec.structs.replace(CLAIM, **changes).is_valid(node("ada"), verify)


def test_a_commit_is_accepted_by_the_voters_who_have_signed_it() -> None:
    commit = chain_of(*NAMES[:3], rounds=1).commits[0]
    voters = {member(name) for name in NAMES[:3]}
    assert accepted_by(commit, voters, verify) == {member("ada"), member("ben")}
    assert accepted_by(commit, {member("ben"), member("cleo")}, verify) == {member("ben")}
    forged = msgspec.structs.replace(commit, record=msgspec.structs.replace(commit.record, note="another"))
    assert accepted_by(forged, voters, verify) == set()
    assert all(cast.is_valid(verify) for cast in casts_of(commit))


def test_of_one_voter_the_first_vote_in_a_commit_is_checked_and_no_other() -> None:
    commit = chain_of(*NAMES[:3], rounds=1).commits[0]
    bad = [
        msgspec.structs.replace(vote, signature=bytes([number]) * 70)
        for vote in commit.acceptors
        for number in range(100)
    ]
    checked = []

    def check(*arguments: Any) -> Any:
        checked.append(arguments)
        return verify(*arguments)

    voters = {member(name) for name in NAMES[:3]}
    many = msgspec.structs.replace(commit, acceptors=(*commit.acceptors, *bad))
    assert accepted_by(many, voters, check) == {member("ada"), member("ben")}
    assert len(checked) == 2


def test_the_newest_of_claim_and_votes_is_remembered() -> None:
    assert JournalEvidence().votes == 0
    assert JournalEvidence(claim=CLAIM).votes == 9
    assert JournalEvidence(cast=CAST).votes == 5
    newer = msgspec.structs.replace(CAST, vote=msgspec.structs.replace(CAST.vote, votes=12))
    seen = JournalEvidence(CLAIM, CAST).with_vote(newer)
    assert seen == JournalEvidence(CLAIM, newer)
    assert seen.votes == 12
    assert seen.with_vote(CAST) is seen
    assert seen.with_vote(None) is seen


def test_what_is_signed_survives_the_codec() -> None:
    for value, kind in ((CAST, CastVote), (CLAIM, Claim)):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind) == value
