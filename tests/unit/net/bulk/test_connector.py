from __future__ import annotations

from p2pfl.errors import HandshakeRefused, NetworkError
from p2pfl.net.bulk.connector import explain_unreachable
from p2pfl.net.bulk.dialler import DialFailedError
from p2pfl.net.bulk.holders import Holder
from p2pfl.net.transport.addresses import Address

PLACE = Address("10.0.0.3", 9003)
PI = Holder("x" * 52, "pi", [PLACE])
LATE = NetworkError("it did not dial back in time")


def test_the_reason_names_the_device_its_address_both_directions_and_the_port_to_open() -> None:
    dialled = DialFailedError([PLACE], [NetworkError("it did not answer within 5 s: is the device on?")])
    assert explain_unreachable(PI, {"dial": dialled, "dial back": LATE}) == (
        "pi cannot be dialled at 10.0.0.3:9003 (it did not answer within 5 s): "
        "does its firewall let port 9003 in? And it did not dial back in time"
    )


def test_no_firewall_is_named_if_a_node_answered_or_no_address_is_known() -> None:
    for dialled in (
        DialFailedError([PLACE], [HandshakeRefused("another node answered")]),
        DialFailedError([], []),
    ):
        reason = explain_unreachable(PI, {"dial back": LATE, "dial": dialled})
        assert reason == f"pi {dialled}, and {LATE}"
