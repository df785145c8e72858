from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from p2pfl.identity.names import Role
from p2pfl.identity.peer import PeerIdentity
from p2pfl.messages import Ballot, Member
from p2pfl.net.links.admission import Admission, may_be_late
from p2pfl.proofs import CastVote, Claim, JournalEvidence, sign_claim, sign_vote
from p2pfl.sim.setting import signer_of
from p2pfl.wire.links import Hello, Refusal, Welcome
from tests.support.meshes import Incarnations, new_local

LOW, MIDDLE, HIGH = ("a" * 52, "b" * 52, "c" * 52)
JOURNAL, OTHER_JOURNAL = "1" * 32, "2" * 32
OWN_NONCE, NONCE, OTHER_NONCE = "e" * 32, "f" * 32, "0" * 32
OWN = replace(new_local(JOURNAL, 3, OWN_NONCE, votes=10), signer=signer_of(MIDDLE))
"""The node under test."""


def identity(node: str = HIGH, role: Role = "node") -> PeerIdentity:
    return PeerIdentity(node, "peer", role, "lab")


def hello(
    *, journal: str = JOURNAL, incarnation: int = 1, nonce: str = NONCE, seen: int = 0, seen_nonce: str = OWN_NONCE,
    versions: tuple[int, int] = (2, 2), votes: int = 0, node: str = HIGH,
) -> Hello:  # fmt: skip
    return Hello(
        "0.1.0", claim(journal, incarnation, nonce, votes, node), 9000, (), *versions, seen_nonce, seen
    )


def claim(
    journal: str = JOURNAL, incarnation: int = 1, nonce: str = NONCE, votes: int = 0, node: str = HIGH
) -> Claim:
    return sign_claim(signer_of(node), Member(node, journal), incarnation, nonce, votes)


def cast(votes: int, node: str = HIGH, journal: str = JOURNAL) -> CastVote:
    """Promise number *votes* of a journal."""
    run, ballot = "0" * 64, Ballot(2, LOW)
    vote = sign_vote(signer_of(node), Member(node, journal), run, 1, ballot, "", votes)
    return CastVote(run, 1, ballot, "", vote)


def welcome(order: int = 0, nonce: str = NONCE) -> Welcome:
    return Welcome("0.1.0", claim(nonce=nonce, node=LOW), 9000, (), 2, order)


@pytest.fixture
def incarnations() -> Incarnations:
    return Incarnations()


@pytest.fixture
def admission(incarnations: Incarnations) -> Admission:
    return Admission(MIDDLE, OWN, incarnations, max_links=2)


def kind(admission: Admission, frame: Hello, node: str = HIGH, role: Role = "node") -> str | None:
    refusal = admission.refuse_hello(identity(node, role), frame)
    return None if refusal is None else refusal.kind


def test_a_newcomer_is_admitted_and_remembered(admission: Admission, incarnations: Incarnations) -> None:
    assert kind(admission, hello(incarnation=4)) is None
    assert incarnations.known == {Member(HIGH, JOURNAL): JournalEvidence(claim(incarnation=4))}


@pytest.mark.parametrize("versions", [(3, 9), (1, 1), (5, 4)])
def test_without_a_common_version_a_dialer_is_refused(
    admission: Admission, versions: tuple[int, int]
) -> None:
    assert kind(admission, hello(versions=versions)) == "version"


def test_the_highest_common_version_is_chosen(admission: Admission) -> None:
    assert admission.version_with(hello(versions=(1, 9))) == 2


def test_other_roles_than_node_are_neither_admitted_nor_remembered(
    admission: Admission, incarnations: Incarnations
) -> None:
    assert kind(admission, hello(), role="operator") == "role"
    assert incarnations.known == {}


def test_the_nonce_distinguishes_this_node_from_a_twin(admission: Admission) -> None:
    assert kind(admission, hello(nonce=OWN_NONCE), node=MIDDLE) == "self"
    assert kind(admission, hello(nonce=NONCE), node=MIDDLE) == "twin"


@pytest.mark.parametrize(
    ("incarnation", "nonce", "verdict"),
    [
        (5, NONCE, None),
        (6, OTHER_NONCE, None),
        (5, OTHER_NONCE, "cloned"),
        (4, NONCE, "cloned"),
        (4, OTHER_NONCE, "cloned"),
    ],
)
def test_incarnations_only_increase_and_each_has_one_nonce(
    admission: Admission, incarnations: Incarnations, incarnation: int, nonce: str, verdict: str | None
) -> None:
    incarnations.save_claim(Member(HIGH, JOURNAL), claim(incarnation=5))
    assert kind(admission, hello(incarnation=incarnation, nonce=nonce)) == verdict


def test_a_refused_copy_does_not_change_the_memory(admission: Admission, incarnations: Incarnations) -> None:
    incarnations.save_claim(Member(HIGH, JOURNAL), claim(incarnation=5))
    kind(admission, hello(incarnation=4, nonce=OTHER_NONCE))
    assert incarnations.known == {Member(HIGH, JOURNAL): JournalEvidence(claim(incarnation=5))}


@pytest.mark.parametrize(("votes", "verdict"), [(6, None), (5, None), (4, "cloned"), (0, "cloned")])
def test_votes_only_increase_in_any_incarnation(
    admission: Admission, incarnations: Incarnations, votes: int, verdict: str | None
) -> None:
    incarnations.save_claim(Member(HIGH, JOURNAL), claim(incarnation=5, votes=5))
    assert kind(admission, hello(incarnation=9, nonce=OTHER_NONCE, votes=votes)) == verdict


def test_a_vote_that_was_seen_counts_as_much_as_a_claim(
    admission: Admission, incarnations: Incarnations
) -> None:
    incarnations.known[Member(HIGH, JOURNAL)] = JournalEvidence(claim(incarnation=5, votes=5), cast(7))
    refusal = admission.refuse_hello(identity(), hello(incarnation=6, nonce=OTHER_NONCE, votes=6))
    assert refusal is not None
    assert (refusal.kind, refusal.claim, refusal.cast) == ("cloned", claim(incarnation=5, votes=5), cast(7))
    assert "it claims 6 cast votes, and 7 were seen" in refusal.reason
    incarnations.known[Member(HIGH, JOURNAL)] = JournalEvidence(None, cast(7))
    assert kind(admission, hello(votes=6)) == "cloned"
    assert kind(admission, hello(votes=7)) is None


@pytest.mark.parametrize(
    ("last", "of", "is_doubtful"),
    [
        (claim(incarnation=5, votes=7), claim(incarnation=5, votes=6), True),
        (claim(incarnation=5, votes=7), claim(incarnation=6, nonce=OTHER_NONCE, votes=6), True),
        (None, claim(votes=6), True),
        (claim(incarnation=5, votes=7), claim(incarnation=4, votes=6), False),
        (claim(incarnation=5, votes=7), claim(incarnation=5, nonce=OTHER_NONCE, votes=6), False),
    ],
)
def test_only_votes_that_are_missing_may_be_those_cast_just_now(
    last: Claim | None, of: Claim, is_doubtful: bool
) -> None:
    assert may_be_late(refusal(last), of) == is_doubtful
    assert not may_be_late(Refusal("twin", "it says so", last), of)


def test_a_claim_not_signed_with_the_certificates_key_is_refused(
    admission: Admission, incarnations: Incarnations
) -> None:
    assert kind(admission, hello(node=LOW)) == "protocol"
    frame = hello(votes=3)
    lying = msgspec.structs.replace(frame, claim=msgspec.structs.replace(frame.claim, votes=4))
    assert kind(admission, lying) == "protocol"
    assert incarnations.known == {}


def refusal(claim: Claim | None = None, cast: CastVote | None = None) -> Refusal:
    return Refusal("cloned", "it says so", claim, cast)


@pytest.mark.parametrize(
    "proof",
    [
        refusal(claim(incarnation=4, votes=0, node=MIDDLE)),
        refusal(claim(incarnation=3, nonce=OTHER_NONCE, votes=0, node=MIDDLE)),
        refusal(claim(incarnation=1, votes=11, node=MIDDLE)),
        refusal(claim(incarnation=1, node=MIDDLE), cast(11, MIDDLE)),
        refusal(None, cast(11, MIDDLE)),
    ],
)
def test_the_own_signature_proves_that_a_journal_is_a_copy(admission: Admission, proof: Refusal) -> None:
    assert admission.proves_clone(proof)


@pytest.mark.parametrize(
    "proof",
    [
        refusal(),
        refusal(claim(incarnation=3, nonce=OWN_NONCE, votes=10, node=MIDDLE)),
        refusal(claim(incarnation=2, nonce=OTHER_NONCE, votes=9, node=MIDDLE), cast(10, MIDDLE)),
        refusal(claim(incarnation=9, votes=99, node=HIGH), cast(99, HIGH)),
        refusal(claim(OTHER_JOURNAL, 9, votes=99, node=MIDDLE), cast(99, MIDDLE, OTHER_JOURNAL)),
        refusal(msgspec.structs.replace(claim(node=MIDDLE), incarnation=9)),
        refusal(None, msgspec.structs.replace(cast(11, MIDDLE), round=2)),
    ],
)
def test_nothing_else_proves_that_a_journal_is_a_copy(admission: Admission, proof: Refusal) -> None:
    assert not admission.proves_clone(proof)


def test_a_new_journal_is_refused_until_the_old_link_has_ended(admission: Admission) -> None:
    order = admission.accept(HIGH, hello())
    assert kind(admission, hello(journal=OTHER_JOURNAL)) == "twin"
    admission.release(HIGH, order)
    assert kind(admission, hello(journal=OTHER_JOURNAL)) is None


def test_the_number_of_links_is_limited(admission: Admission) -> None:
    admission.accept("d" * 52, hello())
    admission.accept("e" * 52, hello())
    assert kind(admission, hello()) == "full"
    assert kind(admission, hello(incarnation=2, nonce=OTHER_NONCE, node="d" * 52), node="d" * 52) is None


def test_the_judge_refuses_a_dialer_that_does_not_know_of_the_link_yet(admission: Admission) -> None:
    first = admission.accept(HIGH, hello())
    assert kind(admission, hello(seen=first - 1)) == "duplicate"
    assert kind(admission, hello(seen=first + 7, seen_nonce=OTHER_NONCE)) == "duplicate"
    assert admission.is_current(HIGH, first)


def test_the_judge_admits_a_dialer_that_has_lost_their_link(admission: Admission) -> None:
    first = admission.accept(HIGH, hello())
    assert kind(admission, hello(seen=first)) is None
    second = admission.accept(HIGH, hello(seen=first))
    assert second > first
    assert not admission.is_current(HIGH, first)


def test_the_judge_admits_a_restarted_dialer(admission: Admission) -> None:
    admission.accept(HIGH, hello())
    assert kind(admission, hello(incarnation=2, nonce=OTHER_NONCE)) is None


def test_the_other_node_refuses_no_duplicate_but_keeps_the_highest_number(admission: Admission) -> None:
    assert not admission.is_judge(LOW)
    assert admission.accept_numbered(LOW, welcome(), 5)
    assert kind(admission, hello(node=LOW), node=LOW) is None
    assert not admission.accept_numbered(LOW, welcome(), 4)
    assert admission.accept_numbered(LOW, welcome(), 6)
    assert admission.seen(LOW) == (NONCE, 6)


def test_a_restarted_judge_numbers_connections_from_the_start(admission: Admission) -> None:
    admission.accept_numbered(LOW, welcome(), 5)
    assert admission.accept_numbered(LOW, welcome(nonce=OTHER_NONCE), 1)


def test_the_end_of_a_replaced_connection_does_not_release_its_successor(admission: Admission) -> None:
    first = admission.accept(HIGH, hello())
    second = admission.accept(HIGH, hello())
    admission.release(HIGH, first)
    assert admission.is_current(HIGH, second)
    admission.release(HIGH, second)
    assert not admission.has_connection(HIGH)


def test_a_banned_node_is_refused_without_a_signature_check(incarnations: Incarnations) -> None:
    ban_reasons = {HIGH: "it sent too many STATUS"}
    admission = Admission(
        MIDDLE, OWN, incarnations, max_links=2, ban_reason=lambda node: ban_reasons.get(node, "")
    )
    unsigned = msgspec.structs.replace(hello(), claim=claim(node=LOW))
    for words in (hello(), unsigned):
        refusal = admission.refuse_hello(identity(HIGH), words)
        assert refusal == Refusal("protocol", "peer gets no link: it sent too many STATUS")
    assert kind(admission, hello(node=LOW), LOW) is None
