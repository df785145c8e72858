from __future__ import annotations

from p2pfl.errors import HandshakeRefused, NetworkError
from p2pfl.net.bulk.dialler import DialFailedError
from p2pfl.net.transport.addresses import Address

PLACES = [Address("10.0.0.3", 9003), Address("pi.local", 9004), Address("fd00::3", 9003)]
SILENT = NetworkError("it did not answer within 5 s: is the device on, and does its firewall let others in?")
CLOSED = NetworkError("nothing listens there: is the node running, and on this port?")
OTHER = HandshakeRefused("node abc was expected at 10.0.0.3:9003, but node pi answered")


def test_the_error_names_the_first_addresses_without_advice() -> None:
    told = DialFailedError(PLACES, [SILENT, CLOSED, CLOSED])
    assert str(told) == (
        "cannot be dialled at 10.0.0.3:9003 and pi.local:9004 "
        "(it did not answer within 5 s; nothing listens there)"
    )
    assert told.port == 9003
    assert not told.is_answered


def test_equal_reasons_of_two_addresses_appear_once() -> None:
    assert str(DialFailedError(PLACES[:2], [SILENT, SILENT])).count("did not answer") == 1


def test_an_answer_rules_out_a_firewall() -> None:
    told = DialFailedError(PLACES[:1], [OTHER])
    assert told.is_answered
    assert str(told) == f"cannot be dialled at 10.0.0.3:9003 ({OTHER})"


def test_without_an_address_the_error_says_so() -> None:
    assert str(DialFailedError([], [])) == "has no known address to dial"
