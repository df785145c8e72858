from __future__ import annotations

import pytest
from rich.cells import cell_len

from tests.support.drawn import plain
from tests.support.recordings import HOSTILE
from tui.widgets.legend import Entry, draw_legend

CURVES = [
    Entry("━", "global", "global", "0.960"),
    Entry("╌", "me", "me", ""),
    Entry("a╍", "a-device-with-a-long-name", "third", "0.95"),
    Entry("░", "members", "quiet"),
]
MARKS = [
    Entry("✗", "lost", "bad", is_optional=True),
    Entry("★", "elected again", "lead", is_optional=True),
]


def drawn(entries: list[Entry], width: int, height: int = 9) -> list[str]:
    return [line.plain.rstrip() for line in draw_legend(entries, width, height)]


def test_values_have_a_fixed_width_so_that_nothing_moves_with_the_cursor() -> None:
    other = [CURVES[0], CURVES[1]._replace(value="0.9"), *CURVES[2:]]
    one, two = drawn(CURVES, 200)[0], drawn(other, 200)[0]
    assert one == " ━ global 0.960  ╌ me        a╍ a-device-with-a-long-name 0.95   ░ members"
    assert two.index("a╍") == one.index("a╍")


def test_it_wraps_then_shortens_names_then_leaves_out_values() -> None:
    assert drawn(CURVES, 60) == [
        " ━ global 0.960  ╌ me",
        " a╍ a-device-with-a-long-name 0.95   ░ members",
    ]
    assert drawn(CURVES, 62, height=5) == [" ━ global 0.960  ╌ me        a╍ a-device-wi… 0.95   ░ members"]
    assert drawn(CURVES, 58, height=5) == [" ━ global 0.960  ╌ me        a╍ a-devic… 0.95   ░ members"]
    assert drawn(CURVES, 50, height=5) == [" ━ global 0.960  ╌ me  a╍ a-device-wi…  ░ members"]


def test_it_says_how_many_have_no_room_at_all() -> None:
    assert drawn(CURVES, 24, height=5) == [" ━ global 0.960  +3"]
    assert drawn(CURVES, 2, height=5) == []


def test_optional_entries_open_a_further_line_only_in_a_large_chart() -> None:
    assert drawn([*CURVES, *MARKS], 79) == drawn(CURVES, 79)
    assert drawn([*CURVES, *MARKS], 85)[0].endswith("░ members  ✗ lost"), "as many as fit"
    assert drawn([*CURVES, *MARKS], 80, height=25)[-1] == " ✗ lost  ★ elected again"
    assert drawn([*CURVES, *MARKS], 100)[0].endswith("░ members  ✗ lost  ★ elected again")


def test_a_hidden_curve_keeps_its_name() -> None:
    assert drawn([CURVES[0]._replace(is_hidden=True), CURVES[3]], 80) == [" (global)  ░ members"]


@pytest.mark.parametrize("height", [1, 6, 9, 40])
def test_it_is_never_wider_than_its_place_and_never_cut_within_a_value(height: int) -> None:
    entries = [
        Entry("━", HOSTILE, "me", "0.123"),
        *CURVES,
        *CURVES,
        Entry("b", "日本語の端末", "me", "0.5"),
        *MARKS,
    ]
    for width in range(1, 160):
        lines = draw_legend(entries, width, height)
        assert len(lines) <= max(1, height // 3, height // 10)
        assert all(cell_len(line.plain) <= width for line in lines)
        text = plain(lines)
        assert "\x1b" not in text
        assert text.count("0.960") == text.count("0.96"), width
