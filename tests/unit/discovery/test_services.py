from __future__ import annotations

import pytest

from p2pfl.discovery.services import MAX_PROPERTIES, Service, read_properties


@pytest.mark.parametrize(
    ("instance", "properties"),
    [("", {}), ("é" * 32, {}), ("pi", {"key": "x" * 252})],
)
def test_what_does_not_fit_into_a_packet_is_refused(instance: str, properties: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="bytes"):
        Service("node", instance, 9000, properties)


def test_what_just_fits_is_accepted() -> None:
    Service("node", "x" * 63, 9000, {"key": "x" * 251})


def test_a_txt_record_is_read_as_printable_texts() -> None:
    properties = read_properties({b"Version": b"0.1", b"flag": None, b"evil": b"\x1b[31mred"})

    assert properties == {"version": "0.1", "flag": "", "evil": "?[31mred"}


def test_properties_that_are_too_long_or_no_utf_8_are_left_out() -> None:
    assert read_properties({b"a": b"x" * 255, b"b": b"\xff", b"\xff": b"c", b"d": b"e"}) == {"d": "e"}


def test_only_the_first_properties_are_read() -> None:
    many = {f"k{number}".encode(): b"" for number in range(1000)}

    assert len(read_properties(many)) == MAX_PROPERTIES
