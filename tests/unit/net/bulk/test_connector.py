from __future__ import annotations

from p2pfl.errors import HandshakeRefused, NetworkError
from p2pfl.net.bulk.connector import why_unreached
from p2pfl.net.bulk.dialler import Undialled
from p2pfl.net.bulk.holders import Holder
from p2pfl.net.transport.addresses import Address

PLACE = Address("10.0.0.3", 9003)
PI = Holder("x" * 52, "pi", [PLACE])
LATE = NetworkError("it did not dial back in time")


def test_the_reason_names_device_address_both_ways_and_the_port_to_open() -> None:
    dialled = Undialled([PLACE], [NetworkError("it did not answer within 5 s: is the device on?")])
    assert why_unreached(PI, {"dial": dialled, "call": LATE}) == (
        "pi cannot be dialled at 10.0.0.3:9003 (it did not answer within 5 s): "
        "does its firewall let port 9003 in? And it did not dial back in time"
    )


def test_no_firewall_is_blamed_where_somebody_answered_or_no_address_is_known() -> None:
    for dialled in (Undialled([PLACE], [HandshakeRefused("another node answered")]), Undialled([], [])):
        reason = why_unreached(PI, {"call": LATE, "dial": dialled})
        assert reason == f"pi {dialled}, and {LATE}"
