from __future__ import annotations

from p2pfl.errors import HandshakeRefused, NetworkError
from p2pfl.net.addresses import Address
from p2pfl.net.bulk import Undialled

PLACES = [Address("10.0.0.3", 9003), Address("pi.local", 9004), Address("fd00::3", 9003)]
SILENT = NetworkError("it did not answer within 5 s: is the device on, and does its firewall let others in?")
CLOSED = NetworkError("nothing listens there: is the node running, and on this port?")
OTHER = HandshakeRefused("node abc was expected at 10.0.0.3:9003, but node pi answered")


def test_the_reason_names_the_first_addresses_and_leaves_the_advice_to_others() -> None:
    told = Undialled(PLACES, [SILENT, CLOSED, CLOSED])
    assert str(told) == (
        "cannot be dialled at 10.0.0.3:9003 and pi.local:9004 "
        "(it did not answer within 5 s; nothing listens there)"
    )
    assert told.port == 9003
    assert not told.is_answered


def test_one_reason_for_two_addresses_is_told_once() -> None:
    assert str(Undialled(PLACES[:2], [SILENT, SILENT])).count("did not answer") == 1


def test_who_was_answered_by_somebody_need_not_look_at_a_firewall() -> None:
    told = Undialled(PLACES[:1], [OTHER])
    assert told.is_answered
    assert str(told) == f"cannot be dialled at 10.0.0.3:9003 ({OTHER})"


def test_without_an_address_that_is_said() -> None:
    assert str(Undialled([], [])) == "has no known address to dial"
