from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import UserError
from p2pfl.net.transport.addresses import Address, normal, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("laptop", "laptop", 9000),
        ("laptop.local:9100", "laptop.local", 9100),
        (" 192.0.2.7:1 ", "192.0.2.7", 1),
        ("[2001:db8::1]:9001", "2001:db8::1", 9001),
        ("[::1]", "::1", 9000),
        ("::1", "::1", 9000),
        ("my_host:65535", "my_host", 65535),
    ],
)
def test_valid_forms_are_parsed(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "host must be"),
        (":9000", "host must be"),
        ("host:", "port must be"),
        ("host:0", "from 1 to 65535"),
        ("host:65536", "from 1 to 65535"),
        ("host:http", "port must be"),
        ("host:١", "port must be"),
        ("a b:1", "host must be"),
        ("-x:1", "host must be"),
        ("2001:db8::1:9000:zzz", "needs brackets"),
        ("[laptop]:9000", "only an IPv6 address"),
        ("[127.0.0.1]:9000", "only an IPv6 address"),
        ("x" * 254, "host must be"),
        ("http://host:9000", "needs brackets"),
    ],
)
def test_an_invalid_address_is_rejected_with_the_valid_forms(text: str, said: str) -> None:
    with pytest.raises(UserError, match=f"{said}.*HOST:PORT"):
        parse_address(text)


@given(st.text(max_size=30))
def test_any_text_is_an_address_that_parses_back_or_a_user_error(text: str) -> None:
    try:
        address = parse_address(text)
    except UserError:
        return
    assert parse_address(str(address)) == address


def test_port_0_is_valid_only_for_listening() -> None:
    assert parse_address("127.0.0.1:0", least_port=0) == Address("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("host", "is_loopback"), [("127.0.0.9", True), ("::1", True), ("localhost", True), ("10.0.0.1", False)]
)
def test_loopback_addresses_are_recognised(host: str, is_loopback: bool) -> None:
    assert Address(host, 1).is_loopback is is_loopback


@pytest.mark.parametrize(
    ("host", "is_useful"),
    [("0.0.0.0", False), ("::", False), ("fe80::1", False), ("10.0.0.1", True), ("x", True)],
)
def test_addresses_that_others_cannot_use_are_recognised(host: str, is_useful: bool) -> None:
    assert Address(host, 1).is_shareable is is_useful


def test_addresses_have_one_normal_form() -> None:
    assert normal("::ffff:192.0.2.7") == "192.0.2.7"
    assert normal("2001:DB8:0:0::1") == "2001:db8::1"
    assert normal("host") == "host"
