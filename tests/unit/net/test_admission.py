from __future__ import annotations

import pytest

from p2pfl.identity.names import Role
from p2pfl.identity.peer import PeerIdentity
from p2pfl.messages import Member
from p2pfl.net.admission import Admission
from p2pfl.wire.links import Hello, Welcome
from tests.support.meshes import Boots, new_local

LOW, MIDDLE, HIGH = ("a" * 52, "b" * 52, "c" * 52)
JOURNAL, OTHER_JOURNAL = "1" * 32, "2" * 32
OWN_NONCE, NONCE, OTHER_NONCE = "e" * 32, "f" * 32, "0" * 32


def identity(node: str = HIGH, role: Role = "node") -> PeerIdentity:
    return PeerIdentity(node, "peer", role, "lab")


def hello(
    *, journal: str = JOURNAL, boot: int = 1, nonce: str = NONCE, seen: int = 0, seen_nonce: str = OWN_NONCE,
    versions: tuple[int, int] = (1, 1),
) -> Hello:  # fmt: skip
    return Hello("0.1.0", journal, boot, nonce, 9000, (), *versions, seen_nonce, seen)


def welcome(order: int = 0, nonce: str = NONCE) -> Welcome:
    return Welcome("0.1.0", JOURNAL, 1, nonce, 9000, (), 1, order)


@pytest.fixture
def boots() -> Boots:
    return Boots()


@pytest.fixture
def admission(boots: Boots) -> Admission:
    return Admission(MIDDLE, new_local(boot=3, nonce=OWN_NONCE), boots, max_links=2)


def kind(admission: Admission, frame: Hello, node: str = HIGH, role: Role = "node") -> str | None:
    refusal = admission.refuse_hello(identity(node, role), frame)
    return None if refusal is None else refusal.kind


def test_a_newcomer_is_admitted_and_remembered(admission: Admission, boots: Boots) -> None:
    assert kind(admission, hello(boot=4)) is None
    assert boots.seen == {Member(HIGH, JOURNAL): (4, NONCE)}


@pytest.mark.parametrize("versions", [(2, 9), (5, 4)])
def test_without_a_common_version_nobody_is_admitted(admission: Admission, versions: tuple[int, int]) -> None:
    assert kind(admission, hello(versions=versions)) == "version"


def test_the_highest_common_version_holds(admission: Admission) -> None:
    assert admission.version_with(hello(versions=(1, 9))) == 1


def test_others_than_nodes_are_not_admitted_nor_remembered(admission: Admission, boots: Boots) -> None:
    assert kind(admission, hello(), role="operator") == "role"
    assert boots.seen == {}


def test_oneself_is_told_from_a_twin_by_the_nonce(admission: Admission) -> None:
    assert kind(admission, hello(nonce=OWN_NONCE), node=MIDDLE) == "self"
    assert kind(admission, hello(nonce=NONCE), node=MIDDLE) == "twin"


@pytest.mark.parametrize(
    ("boot", "nonce", "verdict"),
    [
        (5, NONCE, None),
        (6, OTHER_NONCE, None),
        (5, OTHER_NONCE, "cloned"),
        (4, NONCE, "cloned"),
        (4, OTHER_NONCE, "cloned"),
    ],
)
def test_boots_only_rise_and_each_has_one_nonce(
    admission: Admission, boots: Boots, boot: int, nonce: str, verdict: str | None
) -> None:
    boots.save_boot(Member(HIGH, JOURNAL), 5, NONCE)
    assert kind(admission, hello(boot=boot, nonce=nonce)) == verdict


def test_a_copy_leaves_the_memory_as_it_was(admission: Admission, boots: Boots) -> None:
    boots.save_boot(Member(HIGH, JOURNAL), 5, NONCE)
    kind(admission, hello(boot=4, nonce=OTHER_NONCE))
    assert boots.seen == {Member(HIGH, JOURNAL): (5, NONCE)}


def test_a_new_journal_has_to_wait_for_the_end_of_the_old_ones_link(admission: Admission) -> None:
    order = admission.take(HIGH, hello())
    assert kind(admission, hello(journal=OTHER_JOURNAL)) == "twin"
    admission.release(HIGH, order)
    assert kind(admission, hello(journal=OTHER_JOURNAL)) is None


def test_no_more_links_than_the_most(admission: Admission) -> None:
    admission.take("d" * 52, hello())
    admission.take("e" * 52, hello())
    assert kind(admission, hello()) == "full"
    assert kind(admission, hello(boot=2, nonce=OTHER_NONCE), node="d" * 52) is None


def test_the_judge_refuses_a_dialer_that_has_not_heard_of_their_link_yet(admission: Admission) -> None:
    first = admission.take(HIGH, hello())
    assert kind(admission, hello(seen=first - 1)) == "duplicate"
    assert kind(admission, hello(seen=first + 7, seen_nonce=OTHER_NONCE)) == "duplicate"
    assert admission.stands(HIGH, first)


def test_the_judge_admits_a_dialer_that_has_lost_their_link(admission: Admission) -> None:
    first = admission.take(HIGH, hello())
    assert kind(admission, hello(seen=first)) is None
    second = admission.take(HIGH, hello(seen=first))
    assert second > first
    assert not admission.stands(HIGH, first)


def test_the_judge_admits_a_dialer_that_was_started_anew(admission: Admission) -> None:
    admission.take(HIGH, hello())
    assert kind(admission, hello(boot=2, nonce=OTHER_NONCE)) is None


def test_who_is_not_the_judge_refuses_no_duplicate_but_keeps_the_highest_order(admission: Admission) -> None:
    assert not admission.is_judge(LOW)
    assert admission.take_judged(LOW, welcome(), 5)
    assert kind(admission, hello(), node=LOW) is None
    assert not admission.take_judged(LOW, welcome(), 4)
    assert admission.take_judged(LOW, welcome(), 6)
    assert admission.seen(LOW) == (NONCE, 6)


def test_orders_of_a_judge_that_was_started_anew_begin_anew(admission: Admission) -> None:
    admission.take_judged(LOW, welcome(), 5)
    assert admission.take_judged(LOW, welcome(nonce=OTHER_NONCE), 1)


def test_the_end_of_a_replaced_connection_does_not_release_its_successor(admission: Admission) -> None:
    first = admission.take(HIGH, hello())
    second = admission.take(HIGH, hello())
    admission.release(HIGH, first)
    assert admission.stands(HIGH, second)
    admission.release(HIGH, second)
    assert not admission.holds(HIGH)
