from __future__ import annotations

import pytest

from p2pfl.errors import HandshakeRefused, KeptOutError, LateClaimError, NetworkError, NotDialledError
from p2pfl.net.dialling.contacts import FAILURE_REPEAT_SECONDS, GRACE_SECONDS, Contacts, DialFailure
from p2pfl.net.dialling.dialler import FoundService, TargetKey
from p2pfl.net.transport.addresses import Address

LISTED, OTHER = Address("bee", 1), Address("192.0.2.7", 9000)
SERVICE = FoundService("abc")
BEE = "beeid"
WALL = 1000.0


class Told:
    def __init__(self) -> None:
        self.now = 0.0
        self.notices: list[DialFailure | str] = []
        self.refusals: list[tuple[str, str]] = []
        self.contacts = Contacts(
            self.notices.append,
            lambda address, error: self.refusals.append((address, str(error))),
            lambda: self.now,
            lambda: WALL + self.now,
        )
        self.contacts.add(LISTED, "listed", "bee:1")

    def fail(self, now: float, reason: str, *, is_refused: bool = False, key: TargetKey = LISTED) -> None:
        self.now = now
        error = HandshakeRefused(reason) if is_refused else NetworkError(reason)
        self.contacts.failed(key, OTHER, error, 5.0)

    @property
    def reasons(self) -> list[str]:
        return [one.reason if isinstance(one, DialFailure) else f"{one} is reached" for one in self.notices]


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_device_that_starts_within_the_grace_time_is_not_reported(told: Told) -> None:
    told.fail(0.0, "nothing listens there")
    told.fail(GRACE_SECONDS - 1, "nothing listens there")
    told.contacts.reached(LISTED, BEE)
    assert told.notices == []
    assert [one.failure for one in told.contacts.all()] == [None]


def test_a_reason_is_reported_once_after_the_grace_time_with_the_next_try(told: Told) -> None:
    for now in (0.0, GRACE_SECONDS, 100.0, 200.0):
        told.fail(now, "nothing listens there")
    assert told.notices == [DialFailure("bee:1", "nothing listens there", is_refused=False, delay=5.0)]
    assert told.contacts.all()[0].next_try == WALL + 200.0 + 5.0


def test_while_it_is_dialled_its_next_try_is_not_in_the_future(told: Told) -> None:
    told.contacts.begins(LISTED)
    assert told.contacts.all()[0].next_try is None, "no dial has failed"
    told.fail(10.0, "nothing listens there")
    told.now = 12.0  # earlier than it was to be
    told.contacts.begins(LISTED)
    assert told.contacts.all()[0].next_try == WALL + 12.0
    told.now = 20.0  # it waited for others
    told.contacts.begins(LISTED)
    assert told.contacts.all()[0].next_try == WALL + 12.0


def test_a_refusal_is_reported_at_once(told: Told) -> None:
    told.fail(0.0, "another CA", is_refused=True)
    assert told.notices == [DialFailure("bee:1", "another CA", is_refused=True, delay=5.0)]


def test_a_claim_that_may_be_late_is_reported_after_the_grace_time(told: Told) -> None:
    told.contacts.failed(LISTED, OTHER, LateClaimError("a copy", BEE), 5.0)
    assert told.notices == []
    told.now = GRACE_SECONDS
    told.contacts.failed(LISTED, OTHER, LateClaimError("a copy", BEE), 5.0)
    assert told.notices == [DialFailure("bee:1", "a copy", is_refused=True, delay=5.0)]


def test_a_node_that_is_not_dialled_is_shown_with_the_reason_and_without_a_next_try(told: Told) -> None:
    told.contacts.failed(LISTED, OTHER, NotDialledError("it is banned"), 5.0)
    told.now = GRACE_SECONDS
    told.contacts.failed(LISTED, OTHER, NotDialledError("it is banned"), 5.0)
    assert told.notices == []
    told.contacts.begins(LISTED)
    (contact,) = told.contacts.all()
    assert contact.failure == DialFailure("bee:1", "it is banned", is_refused=False, delay=0.0)
    assert contact.next_try is None


def test_that_others_keep_this_device_out_is_told_by_the_ban_alone(told: Told) -> None:
    for now in (0.0, GRACE_SECONDS):
        told.now = now
        told.contacts.failed(LISTED, OTHER, KeptOutError("ada refused this device: it is banned"), 5.0)
    told.contacts.failed(SERVICE, OTHER, KeptOutError("ada refused this device: it is banned"), 5.0)
    assert told.notices == []
    (contact,) = told.contacts.all()
    assert contact.failure is not None
    assert contact.failure.is_refused


def test_a_changed_reason_is_reported_again_but_not_too_often(told: Told) -> None:
    told.fail(0.0, "a")
    told.fail(GRACE_SECONDS, "a")
    told.fail(GRACE_SECONDS + 1, "b")
    told.fail(GRACE_SECONDS + FAILURE_REPEAT_SECONDS, "b", is_refused=True)
    assert told.reasons == ["a", "b"]


def test_the_time_in_a_reason_makes_no_changed_reason(told: Told) -> None:
    told.fail(0.0, "it shows 10:00")
    told.fail(50.0, "it shows 10:50")
    told.fail(99.0, "it shows 11:39")
    assert len(told.notices) == 1


def test_a_reached_address_is_reported_if_its_failure_was(told: Told) -> None:
    told.fail(0.0, "a")
    told.fail(GRACE_SECONDS, "a")
    told.contacts.reached(LISTED, BEE)
    told.contacts.reached(LISTED, BEE)
    assert told.reasons == ["a", "bee:1 is reached"]


def test_a_failure_after_a_link_has_its_own_grace_time(told: Told) -> None:
    told.fail(0.0, "a")
    told.contacts.reached(LISTED, BEE)
    told.fail(100.0, "a")
    assert told.notices == []


def test_a_node_that_is_no_contact_is_told_only_if_it_is_refused(told: Told) -> None:
    told.fail(0.0, "nothing listens there", key="stranger")
    told.fail(9.0, "nothing listens there", key="stranger")
    told.fail(9.0, "another CA", is_refused=True, key="stranger")
    assert (told.notices, told.refusals) == ([], [("192.0.2.7:9000", "another CA")])


def test_a_node_that_dialled_this_one_is_reached_on_the_ports_it_listens_on(told: Told) -> None:
    told.contacts.add(BEE, "known", "bee at 192.0.2.7:9000", BEE)
    told.contacts.reached(LISTED, BEE)
    for key in (LISTED, BEE):
        told.fail(100.0, "a", key=key)
        told.fail(100.0 + GRACE_SECONDS, "a", key=key)

    told.contacts.linked(BEE, OTHER, {2})
    assert told.reasons == ["a", "a", "bee at 192.0.2.7:9000 is reached"]
    told.contacts.linked(BEE, OTHER, {1})
    assert told.reasons[-1] == "bee:1 is reached"


def test_each_node_is_shown_once_by_its_first_kind(told: Told) -> None:
    told.contacts.add(BEE, "known", "bee at 192.0.2.7:9000", BEE)
    told.contacts.add("ant", "known", "ant at 192.0.2.8:9000", "ant")
    told.contacts.add(SERVICE, "found", "192.0.2.9:9000", "ant")
    told.contacts.add(FoundService("new"), "found", "192.0.2.10:9000")
    told.contacts.reached(LISTED, BEE)

    shown = [(one.kind, one.address) for one in told.contacts.all()]
    assert shown == [("listed", "bee:1"), ("found", "192.0.2.9:9000"), ("found", "192.0.2.10:9000")]
    assert told.contacts.nodes_of("listed") == {BEE}
    assert told.contacts.nodes_of("found") == {"ant", FoundService("new")}


def test_a_contact_takes_another_address_and_is_forgotten(told: Told) -> None:
    told.contacts.add(SERVICE, "found", "192.0.2.9:9000")
    told.contacts.add(SERVICE, "found", "bee at 192.0.2.10:9000", BEE)
    assert [(one.address, one.node) for one in told.contacts.all()][1:] == [("bee at 192.0.2.10:9000", BEE)]
    told.contacts.remove(SERVICE)
    told.contacts.remove(SERVICE)
    assert len(told.contacts.all()) == 1


def test_a_node_that_dialled_from_a_listed_address_is_reached_there(told: Told) -> None:
    told.fail(0.0, "nothing listens there")
    told.contacts.linked(BEE, LISTED, {LISTED.port})
    assert [(one.node, one.failure) for one in told.contacts.all()] == [(BEE, None)]
