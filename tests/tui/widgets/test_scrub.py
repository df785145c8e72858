from __future__ import annotations

import pytest

from tui.symbols import MARKS, MarkKind, glyphs
from tui.widgets.scrub import LEAST_BAR, ScrubValues, draw_scrub

MARKED: list[tuple[float, MarkKind]] = [
    (0.0, "join"),
    (0.5, "commit"),
    (0.5, "loss"),
    (0.5, "election"),
    (0.9, "pause"),
]
VALUES = ScrubValues(0.25, 200.0, 4.0, False, MARKED, "r3/10")


def test_it_shows_the_time_the_speed_and_the_round_around_the_marks() -> None:
    bar = draw_scrub(VALUES, 80, glyphs(False))
    assert bar.text.cell_len == 80
    assert bar.text.plain.startswith(" x4     50.0s ▲━")
    assert bar.text.plain.endswith(" 3m20s r3/10 ")
    assert bar.text.plain[bar.first + round(0.25 * (bar.cells - 1))] == "●"


def test_of_marks_on_one_cell_the_worst_is_shown() -> None:
    text = draw_scrub(VALUES, 80, glyphs(False)).text.plain
    assert text.count("✗") == text.count("‖") == 1
    assert "★" not in text


def test_a_held_replay_says_so_in_ascii_too() -> None:
    text = draw_scrub(VALUES._replace(is_held=True), 80, glyphs(True)).text.plain
    assert text.startswith(" held ")
    assert text.isascii()
    assert set("^x=o") <= set(text)


@pytest.mark.parametrize("width", [1, 5, 10, 15, 24, 40])
def test_where_it_is_narrow_the_bar_is_what_stays(width: int) -> None:
    bar = draw_scrub(VALUES, width, glyphs(False))
    assert bar.text.cell_len <= width
    assert bar.cells >= min(LEAST_BAR, max(1, width - 2))


def test_a_click_is_a_position_on_the_bar_only() -> None:
    bar = draw_scrub(VALUES, 80, glyphs(False))
    assert bar.position_at(bar.first - 1) is None
    assert bar.position_at(bar.first) == 0.0
    assert bar.position_at(bar.first + bar.cells - 1) == 1.0
    assert bar.position_at(bar.first + bar.cells) is None
    assert draw_scrub(VALUES, 1, glyphs(False)).position_at(1) == 0.0


def test_every_mark_has_one_cell_and_one_ascii_character() -> None:
    assert all(len(one.mark) == 1 and one.ascii.isascii() and len(one.ascii) == 1 for one in MARKS.values())
    assert (
        len({one.mark for one in MARKS.values()}) == len({one.ascii for one in MARKS.values()}) == len(MARKS)
    )
