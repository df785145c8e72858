from __future__ import annotations

from p2pfl.text import one_line, plural


def test_text_from_a_peer_is_cut_and_made_printable() -> None:
    assert one_line("one\ntwo\x1b[31m", 20) == "one?two?[31m"
    assert one_line("x" * 30, 10) == "x" * 9 + "…"


def test_one_thing_has_the_singular() -> None:
    assert [plural(count, "example") for count in (0, 1, 2)] == ["examples", "example", "examples"]
    assert plural(2, "category") == "categories"
