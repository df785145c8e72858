from __future__ import annotations

import pytest

from tests.support.drawn import plain
from tui.widgets.canvas import LETTERS, PATTERNS, Canvas
from tui.widgets.scale import View

VIEW = View(0.0, 10.0, 0.0, 1.0)
RISE = tuple((float(x), x / 10) for x in range(11))


def test_the_kinds_of_lines_differ_in_their_dots_and_in_ascii_in_their_letters() -> None:
    drawn = set()
    for marker in PATTERNS:
        canvas = Canvas(30, 6, VIEW, is_ascii=False)
        canvas.line(RISE, "global", marker)
        drawn.add(plain(canvas.texts()))
    assert len(drawn) == len(PATTERNS) == len(set(LETTERS.values())) == 8


@pytest.mark.parametrize("marker", PATTERNS)
def test_a_single_value_is_seen_whatever_the_kind_of_line(marker: object) -> None:
    for place in range(11):
        canvas = Canvas(30, 6, VIEW, is_ascii=False)
        canvas.line(tuple((x, y if x == place else None) for x, y in RISE), "me", marker)  # type: ignore[arg-type]
        assert plain(canvas.texts()).strip()


def test_many_values_of_one_column_are_drawn_from_their_least_to_their_largest() -> None:
    canvas = Canvas(2, 4, VIEW, is_ascii=False)
    canvas.line(((0.0, 0.5), (0.1, 1.0), (0.2, 0.0), (0.3, 0.5)), "me", "line")
    assert plain(canvas.texts()) == "\n⡇\n⡇\n⡇\n⡇"


def test_a_curve_goes_on_from_the_last_value_of_a_column() -> None:
    canvas = Canvas(2, 1, View(0.0, 3.0, 0.0, 1.0), is_ascii=False)
    canvas.line(((0.0, 1.0), (0.1, 0.0), (1.0, 0.0), (2.0, 0.0), (3.0, 0.0)), "me", "line")
    assert plain(canvas.texts()) == "\n⣇⣀"


def test_a_dotted_curve_has_gaps_where_its_values_go_up_and_down() -> None:
    curve = tuple((x / 8, float(x % 2)) for x in range(80))
    canvas = Canvas(10, 2, View(0.0, 9.5, 0.0, 1.0), is_ascii=False)
    canvas.line(curve, "me", "dotted")
    assert plain(canvas.texts()) == "\n⡇ ⡇ ⡇ ⡇ ⡇" * 2


def test_a_shade_reaches_from_the_least_to_the_largest_of_many_values_of_one_column() -> None:
    low = tuple((x / 10, 0.4 if x % 3 else 0.1) for x in range(101))
    high = tuple((x / 10, 0.6 if x % 4 else 0.9) for x in range(101))
    canvas = Canvas(5, 8, VIEW, is_ascii=True)
    canvas.fill(low, high)
    assert plain(canvas.texts()) == "\n" + "\n:::::" * 7


def test_a_gap_is_no_line_and_a_shade_lies_between_its_edges() -> None:
    canvas = Canvas(10, 4, VIEW, is_ascii=True)
    canvas.fill(tuple((x, 0.3) for x, _ in RISE), tuple((x, 0.6) for x, _ in RISE))
    canvas.line(tuple((x, None if 3 <= x <= 6 else 1.0) for x, _ in RISE), "me", "dashed")
    assert plain(canvas.texts()) == "\noo    oo o\n::::::::::\n::::::::::\n"


def test_letters_stand_on_their_curves_at_different_places_and_the_last_value_has_one() -> None:
    canvas = Canvas(40, 5, VIEW, is_ascii=False)
    for place, letter in enumerate("ab"):
        canvas.name(tuple((x / 4, 0.5) for x in range(41)), "me", letter, place, 2)
    row = plain(canvas.texts()).split("\n")[3]
    assert [(column, sign) for column, sign in enumerate(row) if sign in "ab"] == [
        (4, "a"), (12, "b"), (20, "a"), (28, "b"), (36, "a"),
    ]  # fmt: skip


def test_letters_of_curves_that_lie_close_together_cover_none_of_each_other() -> None:
    canvas = Canvas(6, 2, VIEW, is_ascii=False)
    canvas.name(((5.0, 0.5),), "me", "a", 0, 2)
    canvas.name(((5.0, 0.5),), "me", "b", 1, 2)
    assert "a" in plain(canvas.texts())


def test_a_rule_is_a_thin_line_under_the_curves() -> None:
    canvas = Canvas(3, 2, VIEW, is_ascii=True)
    canvas.rule(1, "band")
    assert plain(canvas.texts()) == "\n '\n '"
    assert canvas.column_of(5.0) == 1


def test_values_far_outside_are_cut_off_and_where_a_value_is_is_known() -> None:
    canvas = Canvas(10, 4, VIEW, is_ascii=False)
    canvas.line(((0.0, 0.5), (5.0, 1e11), (10.0, -1e11)), "me", "line")
    assert len(canvas.texts()) == 4
    assert canvas.cell_of(0.0, 1.0) == (0, 0)
    assert canvas.cell_of(10.0, 0.0) == (3, 9)
    assert canvas.cell_of(5.0, 7.0) is None
