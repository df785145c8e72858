from __future__ import annotations

import math

import pytest
from rich.cells import cell_len
from rich.text import Text

from tests.support.drawn import plain
from tui.symbols import Glyphs, glyphs
from tui.widgets.plot import Band, ChartLook, ChartMark, Plot, Series, draw_plot, is_log_by_default

UNICODE, ASCII = glyphs(ascii_only=False), glyphs(ascii_only=True)
CURVE = tuple((float(r), 1 - 0.9 * math.exp(-r / 6)) for r in range(1, 43))
MINE = tuple((x, None if 10 <= x <= 14 else y - 0.1) for x, y in CURVE)
SERIES = [Series("global", CURVE, "global"), Series("me", MINE, "me", "dashed")]
BAND = Band(tuple((x, y - 0.2) for x, y in CURVE), tuple((x, min(1.0, y + 0.05)) for x, y in CURVE))
MARKS = [
    ChartMark(5.0, "join", "ada joined"),
    ChartMark(20.0, "join", "bob joined"),
    ChartMark(20.0, "loss", "ada lost"),
    ChartMark(99.0, "pause", "paused"),
]


def one(*points: tuple[float, float | None]) -> list[Series]:
    return [Series("one", points, "global")]


def styles(lines: list[Text]) -> set[str]:
    return {str(span.style) for line in lines for span in line.spans}


def test_lines_a_band_a_gap_and_axes() -> None:
    assert (
        plain(draw_plot(SERIES, BAND, 50, 9, UNICODE).lines)
        == """
     1┤              ⠠⠠⠡⢡⣡⠥⠥⠥⠥⠳⠳⠳⠳⠳⠫⠩⠩⠩⠩⠩⠩⠩⠩⠩⠩⠩⠩⠩⠩
      │          ⠠⠠⢡⠥⠵⠩⠩⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⣡⡡⠡⣡⡡⠡⣡⡡⠡⣡⡡⠡⣡⡡⠡⣡
      │        ⠠⢠⠥⠫⠡⠡⠡⢡⠥⠡⠵⠣⠡⠫⠡⠡⠩⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡
   0.8┤       ⠠⡡⠣⠡⠡⠡⠡⠩⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡⠡
      │     ⠠⡡⠫⠡⠡⠡⠡⠡⠡⠡⠡⠁⠁⠁⠁⠁
      │    ⠠⡽⠡⠡⠡⠡⠡⠡⠁⠁
   0.6┤   ⠠⡯⠡⠵⠡⠡⠁⠁
      └┬────────┬─────────┬──────────┬───────────┬
       1       10        20         30          42"""
    )


def test_in_ascii_series_differ_by_their_letters_and_marks_by_their_signs() -> None:
    assert (
        plain(draw_plot(SERIES, BAND, 50, 9, ASCII, marks=MARKS).lines)
        == """
     1+    '         :::**************************
      |    '     ::******:':::::::oo:oo:oo:oo:oo:o
      |    '   :****::oo:oo:oo:oo::::::::::::::::'
   0.8+    '  :**::::oo:::'::::::::::::::::::::::'
      |    ':**:::::::::::':                     '
      |    '*::::::::     '                      '
   0.6+   :*:oo:::        '                      '
      ++---^----+---------x----------+-----------=
       1       10        20         30          42"""
    )


def test_a_loss_on_a_logarithmic_scale_is_straight_where_it_falls_by_the_same_factor() -> None:
    loss = [Series("loss", tuple((float(x), 10 ** -(x / 10)) for x in range(31)), "global")]
    assert (
        plain(draw_plot(loss, None, 31, 9, UNICODE, ChartLook(is_log=True)).lines)
        == """
     1┤⠉⠢⢄
      │   ⠉⠑⠤⢄
   0.1┤       ⠉⠢⢄
      │          ⠉⠢⠤⢄
  0.01┤              ⠉⠢⢄
      │                 ⠉⠢⠤⢄
 0.001┤                     ⠉⠢⢄
      └┬───────┬──────┬───────┬
       0      10     20      30"""
    )
    assert is_log_by_default(loss)
    assert not is_log_by_default(one((1.0, 0.5), (2.0, 0.2)))
    assert not is_log_by_default([])


def test_zoom_shows_the_last_part_and_a_time_axis_tells_ages() -> None:
    drawn = draw_plot(SERIES[:1], None, 24, 5, UNICODE, ChartLook("time", zoom=4)).lines
    assert (
        plain(drawn)
        == """
     1┤           ⣀⣀⣀⡠⠤⠤
      │   ⣀⡠⠤⠔⠒⠉⠉⠉
 0.995┤⠤⠒⠉
      └┬────┬──────────┬
       32s 35s       42s"""
    )


def test_of_marks_at_one_place_the_worst_is_seen_and_later_ones_are_at_the_end() -> None:
    axis = draw_plot(SERIES, None, 50, 9, UNICODE, marks=MARKS).lines[-2].plain
    assert [(place, sign) for place, sign in enumerate(axis) if sign not in " └─┬"] == [
        (11, "▲"), (26, "✗"), (49, "‖"),
    ]  # fmt: skip
    zoomed = draw_plot(SERIES, None, 50, 9, UNICODE, ChartLook(zoom=4), MARKS).lines[-2].plain
    assert "▲" not in zoomed


def test_many_marks_have_no_lines_through_the_plot() -> None:
    many = [ChartMark(float(x), "join", "") for x in range(2, 40, 4)]
    few, crowded = (draw_plot(one(*CURVE), None, 50, 9, UNICODE, marks=marks) for marks in (MARKS, many))
    assert "band" in styles(few.lines)
    assert "band" not in styles(crowded.lines)
    assert crowded.lines[-2].plain.count("▲") == len(many)


def test_the_cursor_shows_where_the_values_are_and_where_its_place_is_on_the_axis() -> None:
    series = [*SERIES, Series("level", ((1.0, 0.7), (42.0, 0.7)), "alone", "dotted", is_level=True)]
    plot = draw_plot(series, None, 50, 9, UNICODE)
    before = plain(plot.lines)
    lines = plot.with_cursor(32.0, series, ChartLook(), UNICODE)
    place = plot.column_of(32.0)
    assert place is not None
    assert [line.plain[place] for line in lines[:-2]].count("●") == 3, "a level has its value everywhere"
    assert lines[-2].plain == plot.lines[-2].plain
    assert [(span.start, span.end) for span in lines[-2].spans if span.style == "reverse"] == [
        (place, place + 1)
    ]
    assert plain(plot.lines) == before, "the drawn chart is as it was"
    assert plot.with_cursor(99.0, series, ChartLook(), UNICODE) is plot.lines
    ascii_lines = draw_plot(series, None, 50, 9, ASCII).with_cursor(32.0, series, ChartLook(), ASCII)
    assert {line.plain[place] for line in ascii_lines[:-2]} >= {"*", "o", "|"}
    log = draw_plot(one((1.0, 0.0), (2.0, 1.0), (3.0, 0.1)), None, 50, 9, UNICODE, ChartLook(is_log=True))
    crossed = log.with_cursor(2.0, one((2.0, 0.0)), ChartLook(is_log=True), UNICODE)
    assert "●" not in plain(crossed), "zero is not on a logarithmic scale"


def test_a_cell_of_the_plot_is_a_place_of_the_axis() -> None:
    plot = draw_plot(SERIES, None, 50, 9, UNICODE)
    assert plot.x_at(7) == 1.0
    assert plot.x_at(49) == 42.0
    assert plot.x_at(6) is plot.x_at(50) is Plot([]).x_at(9) is Plot([]).column_of(1.0) is None


def test_the_first_series_is_on_top_where_two_cross() -> None:
    both = [Series("a", ((0.0, 0.5), (9.0, 0.5)), "global"), Series("b", ((0.0, 0.5), (9.0, 0.5)), "me")]
    drawn = styles(draw_plot(both, None, 30, 6, UNICODE).lines)
    assert "global" in drawn
    assert "me" not in drawn


def test_curves_of_chosen_members_have_letters() -> None:
    named = [SERIES[0], *(Series(sign, MINE, "me", "long", sign) for sign in "ab")]
    for signs in (UNICODE, ASCII):
        drawn = plain(draw_plot(named, None, 60, 12, signs).lines)
        assert {"a", "b"} <= set(drawn)


def test_without_any_value_it_says_so() -> None:
    drawn = draw_plot(one((1.0, None), (2.0, math.nan)), None, 40, 6, UNICODE).lines
    assert plain(drawn) == "\n\n\n       nothing is evaluated yet"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.7e308, -1e13, 1e13])
def test_what_no_axis_can_show_is_a_gap(value: float) -> None:
    band = Band(((1.0, value),), ((1.0, value),))
    whole = draw_plot(one((1.0, 0.5), (2.0, value), (3.0, 0.6)), band, 40, 8, UNICODE)
    assert whole.view == draw_plot(one((1.0, 0.5), (3.0, 0.6)), None, 40, 8, UNICODE).view


def test_rounds_are_never_labelled_twice_and_the_last_one_in_full() -> None:
    drawn = draw_plot(one((1.0, 0.1), (2.0, 0.3), (3.0, 0.4)), None, 70, 8, UNICODE).lines
    assert drawn[-1].plain.split() == ["1", "2", "3"]
    drawn = draw_plot(one((1.0, 0.1), (12_345.0, 0.3)), None, 40, 8, UNICODE).lines
    assert drawn[-1].plain.split()[-1] == "12345"
    assert drawn[-1].cell_len == 40


@pytest.mark.parametrize("glyph_set", [UNICODE, ASCII], ids=["unicode", "ascii"])
@pytest.mark.parametrize("look", [ChartLook(), ChartLook("time", 64.0), ChartLook(is_log=True)])
def test_it_fits_any_size(glyph_set: Glyphs, look: ChartLook) -> None:
    for width in range(0, 60, 3):
        for height in range(12):
            plot = draw_plot(SERIES, BAND, width, height, glyph_set, look, MARKS)
            drawn = plot.with_cursor(41.0, SERIES, look, glyph_set)
            assert len(drawn) <= height
            assert all(cell_len(line.plain) <= width for line in drawn), (width, height)
