from __future__ import annotations

import math

import pytest
from rich.cells import cell_len

from tests.support.drawn import plain
from tui.symbols import Glyphs, glyphs
from tui.widgets.plot import Band, Series, View, bounds, draw_chart, number, with_round_values

UNICODE, ASCII = glyphs(ascii_only=False), glyphs(ascii_only=True)
CURVE = tuple((float(r), 1 - 0.9 * math.exp(-r / 6)) for r in range(1, 43))
MINE = tuple((x, None if 10 <= x <= 14 else y - 0.1) for x, y in CURVE)
SERIES = [Series("global", CURVE, "global"), Series("me", MINE, "me", "dashed")]
BAND = Band(tuple((x, y - 0.2) for x, y in CURVE), tuple((x, min(1.0, y + 0.05)) for x, y in CURVE))


def one(*points: tuple[float, float | None]) -> list[Series]:
    return [Series("one", points, "global")]


def test_lines_a_band_a_gap_and_axes() -> None:
    assert (
        plain(draw_chart(SERIES, BAND, 50, 9, UNICODE))
        == """
     1┤              ⠠⠠⠡⢡⣡⠥⠥⠥⠥⠳⠳⠳⠳⠳⠫⠩⠩⠩⠩⠩⠩⠩⠩⠩⠩⠩⠩⠩⠩
      │          ⠠⠠⢡⠥⠵⠩⠩⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⣡⡡⠡⣡⡡⠡⣡⡡⠡⣡⡡⠡⣡⡡⠡⣡
      │        ⠠⢠⠥⠫⠡⠡⠡⢡⠥⠡⠵⠣⠡⠫⠡⠡⠩⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡
   0.8┤       ⠠⡡⠣⠡⠡⠡⠡⠩⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡
      │     ⠠⡡⠫⠡⠡⠡⠡⠡⠡⠡⠡⠁⠁⠁⠁⠁
      │    ⠠⡽⠡⠡⠡⠡⠡⠡⠁⠁
   0.6┤   ⠠⡯⠡⠵⠡⠡⠁⠁
      └───────────────────────────────────────────
       1         11          22        32       42"""
    )


def test_in_ascii_series_differ_by_their_letters() -> None:
    assert (
        plain(draw_chart(SERIES, BAND, 50, 9, ASCII))
        == """
     1+              :::**************************
      |          ::******:::::::::oo:oo:oo:oo:oo:o
      |        :****::oo:oo:oo:oo:::::::::::::::::
   0.8+       :**::::oo:::::::::::::::::::::::::::
      |     :**:::::::::::::
      |    :*::::::::
   0.6+   :*:oo:::
      +-------------------------------------------
       1         11          22        32       42"""
    )


def test_a_dashed_line_has_its_gaps_where_many_values_share_a_column() -> None:
    points = tuple((float(place), 0.2 + place % 2 * 0.6) for place in range(600))
    full_cells = {
        marker: plain(draw_chart([Series("one", points, "me", marker)], None, 31, 8, UNICODE)).count("⣿")
        for marker in ("line", "dashed", "dotted")
    }
    assert full_cells == {"line": 48, "dashed": 16, "dotted": 0}


def test_zoom_shows_the_last_part_and_a_time_axis_tells_ages() -> None:
    drawn = draw_chart(SERIES[:1], None, 24, 5, UNICODE, x_kind="time", zoom=4)
    assert (
        plain(drawn)
        == """
     1┤           ⣀⣀⣀⡠⠤⠤
      │   ⣀⡠⠤⠔⠒⠉⠉⠉
 0.995┤⠤⠒⠉
      └─────────────────
       32s           42s"""
    )


def test_the_cursor_marks_its_place_on_the_axis() -> None:
    axis = draw_chart(one((0.0, 0.0), (10.0, 1.0)), None, 17, 5, UNICODE, cursor=10.0)[3]
    assert [(span.start, span.end) for span in axis.spans if span.style == "reverse"] == [(16, 17)]


def test_the_first_series_is_on_top_where_two_cross() -> None:
    both = [Series("a", ((0.0, 0.5), (9.0, 0.5)), "global"), Series("b", ((0.0, 0.5), (9.0, 0.5)), "me")]
    styles = {span.style for line in draw_chart(both, None, 30, 6, UNICODE) for span in line.spans}
    assert "global" in styles
    assert "me" not in styles


def test_a_single_value_is_seen_whatever_the_kind_of_line() -> None:
    for marker in ("line", "dashed", "dotted"):
        for place in range(11):
            points = tuple((float(x), 0.5 if x == place else None) for x in range(11))
            rest = Series("all", tuple((float(x), 0.9) for x in range(11)), "global")
            drawn = draw_chart([rest, Series("one", points, "me", marker)], None, 31, 8, UNICODE)
            assert "me" in {span.style for line in drawn for span in line.spans}, (marker, place)


def test_without_any_value_it_says_so() -> None:
    drawn = draw_chart(one((1.0, None), (2.0, math.nan)), None, 40, 6, UNICODE)
    assert plain(drawn) == "\n\n\n       nothing is evaluated yet"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.7e308, -3.0, 1e13])
def test_what_no_axis_can_show_is_a_gap(value: float) -> None:
    whole = one((1.0, 0.5), (2.0, value), (3.0, 0.6))
    assert bounds(whole, None) == bounds(one((1.0, 0.5), (3.0, 0.6)), None)
    assert draw_chart(whole, Band(((1.0, value),), ((1.0, value),)), 40, 8, UNICODE)


def test_an_axis_of_accuracies_ends_at_one_and_one_of_losses_does_not() -> None:
    accuracies, losses = bounds(one((1.0, 0.1), (2.0, 0.99)), None), bounds(one((1.0, 0.1), (2.0, 2.4)), None)
    assert accuracies is not None
    assert losses is not None
    assert accuracies.y_high == 1.0
    assert losses.y_high > 2.4
    assert min(accuracies.y_low, losses.y_low) >= 0.0


@pytest.mark.parametrize(
    ("low", "high", "rows", "expected"),
    [
        (0.55, 1.0, 11, [0.4, 0.6, 0.8, 1.0]),
        (0.12, 0.98, 7, [0.0, 0.5, 1.0]),
        (0.95, 0.99, 12, [0.95, 0.96, 0.97, 0.98, 0.99]),
        (0.0, 2.4, 9, [0.0, 1.0, 2.0, 3.0]),
        (3.0, 3.0001, 3, [3.0, 3.0001]),
    ],
)
def test_an_axis_has_round_values(low: float, high: float, rows: int, expected: list[float]) -> None:
    view, values = with_round_values(View(0.0, 1.0, low, high), rows)
    assert values == pytest.approx(expected)
    assert view.y_low <= low + 1e-12
    assert view.y_high >= high - 1e-12


def test_the_begin_of_a_long_curve_does_not_widen_the_axis() -> None:
    whole = bounds(one(*((float(x), 0.1 if x < 3 else 0.9 + x / 1000) for x in range(40))), None)
    short = bounds(one(*((float(x), 0.1 if x < 3 else 0.9 + x / 1000) for x in range(10))), None)
    assert whole is not None
    assert short is not None
    assert whole.y_low > 0.85
    assert short.y_low < 0.1


def test_a_leap_far_outside_the_axis_costs_nothing() -> None:
    curve = [(float(x), 1e11 if x == 1 else 0.5) for x in range(40)]
    assert len(draw_chart(one(*curve), None, 60, 12, UNICODE)) == 12


def test_rounds_are_never_labelled_twice() -> None:
    drawn = draw_chart(one((1.0, 0.1), (2.0, 0.3), (3.0, 0.4)), None, 70, 8, UNICODE)
    assert drawn[-1].plain.split() == ["1", "2", "3"]


def test_the_last_round_has_its_label_in_full() -> None:
    drawn = draw_chart(one((1.0, 0.1), (12_345.0, 0.3)), None, 40, 8, UNICODE)
    assert drawn[-1].plain.split()[-1] == "12345"
    assert drawn[-1].cell_len == 40


@pytest.mark.parametrize("glyph_set", [UNICODE, ASCII], ids=["unicode", "ascii"])
@pytest.mark.parametrize("zoom", [1.0, 64.0])
def test_it_fits_any_size(glyph_set: Glyphs, zoom: float) -> None:
    for width in range(0, 60, 3):
        for height in range(12):
            drawn = draw_chart(SERIES, BAND, width, height, glyph_set, zoom=zoom, cursor=41.0)
            assert len(drawn) <= height
            assert all(cell_len(line.plain) <= width for line in drawn), (width, height)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0.000"), (0.9612, "0.961"), (9.9996, "10.0"), (12.34, "12.3"), (99.96, "100"), (2.3e9, "2e+09")],
)
def test_values_take_five_characters_at_most(value: float, expected: str) -> None:
    assert number(value) == expected
