import math
from collections.abc import Sequence

import pytest

from p2pfl.cards import LabelCount
from tests.support.drawn import plain
from tui.symbols import glyphs
from tui.widgets.bars import LabelledBar, draw_bars, histogram, label_bars, progress, sparkline, trend

UNICODE, ASCII = glyphs(ascii_only=False), glyphs(ascii_only=True)
COUNTS = [450, 400, 50, 25, 350, 300, 10, 0]


@pytest.mark.parametrize(
    ("part", "width", "expected"),
    [
        (0.62, 20, "▇▇▇▇▇▇▇▇▇▇▇▇········"),
        (0.0, 4, "····"),
        (1.0, 4, "▇▇▇▇"),
        (9.0, 4, "▇▇▇▇"),
        (-1.0, 4, "····"),
        (math.nan, 4, "····"),
        (0.5, 0, ""),
        (0.5, -3, ""),
    ],
)
def test_progress_is_as_full_as_its_share(part: float, width: int, expected: str) -> None:
    assert progress(part, width, UNICODE).plain == expected


def test_progress_in_ascii() -> None:
    assert progress(0.62, 20, ASCII).plain == "############........"


def labels(counts: Sequence[int]) -> list[LabelCount]:
    return [LabelCount(str(number), count) for number, count in enumerate(counts)]


def test_how_labels_are_distributed_is_seen_to_the_eighth_of_a_cell() -> None:
    assert (
        plain(label_bars(labels(COUNTS), 40, 10, UNICODE))
        == """
  0 ██████████████████████████████   450
  1 ██████████████████████████▋···   400
  2 ███▍··························    50
  3 █▋····························    25
  4 ███████████████████████▍······   350
  5 ████████████████████··········   300
  6 ▋·····························    10
  7 ······························     0"""
    )


def test_labels_without_room_are_counted() -> None:
    assert (
        plain(label_bars(labels(COUNTS), 40, 4, ASCII))
        == """
  0 ##############################   450
  1 ###########################...   400
  2 ###...........................    50
  ~ 5 more labels"""
    )


def test_a_few_samples_are_not_none() -> None:
    bars = label_bars(labels([10_000, 1, 0]), 40, 3, UNICODE)
    assert "▏" in bars[1].plain
    assert bars[2].plain == f"  2 {30 * '·'}     0"


@pytest.mark.parametrize(("part", "filled"), [(2.0**53, "####"), (-1.0, "....")])
def test_a_share_that_is_none_of_the_whole_has_room(part: float, filled: str) -> None:
    (line,) = draw_bars([LabelledBar("cat", part, "?")], 10, 5, ASCII, rest="classes")
    assert line.plain == f"cat {filled} ?"


def test_names_of_bars_take_a_third_of_the_width_at_most_and_are_harmless() -> None:
    bars = [LabelledBar("x\x1b[2J a very long name of a class", 0.5, ".500"), LabelledBar("dog", 1.0, "1.00")]
    assert (
        plain(draw_bars(bars, 24, 5, ASCII, rest="classes"))
        == """
x?[2J a… #####..... .500
dog      ########## 1.00"""
    )


@pytest.mark.parametrize("counts", [[], [0, 0], [10**15] * 12, [1]])
def test_they_fit_any_size(counts: list[int]) -> None:
    for width in (0, 1, 5, 12, 13, 40):
        for height in (0, 1, 2, 20):
            drawn = label_bars(labels(counts), width, height, UNICODE)
            assert len(drawn) <= height
            assert all(line.cell_len <= width for line in drawn)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "    "),
        ([5.0], "   ▁"),
        ([1.0, 1.0], "  ▁▁"),
        ([9.0, 0.0, 1.0, 2.0, 3.5], "▁▃▄▇"),
        ([0.0, math.nan, math.inf, 7.0], "  ▁▇"),
    ],
)
def test_a_sparkline_spans_its_own_range(values: list[float], expected: str) -> None:
    assert sparkline(values, 4, UNICODE) == expected


def test_a_sparkline_in_ascii() -> None:
    assert sparkline([0.0, 7.0], 2, ASCII) == "_#"


@pytest.mark.parametrize(
    ("counts", "width", "expected"),
    [((), 4, ""), ((5, 5), 0, ""), ((0, 0), 4, "  "), ((8, 4, 1, 0), 4, "▇▄▂ "), ((4, 4, 2, 0, 1), 3, "▇▃▂")],
)
def test_a_histogram_begins_at_zero_and_a_small_count_is_seen(
    counts: tuple[int, ...], width: int, expected: str
) -> None:
    assert histogram(counts, width, UNICODE) == expected


def test_a_trend_is_a_line_of_two_values_a_cell() -> None:
    assert trend([0.0, 0.5, 1.0, 1.0], 4, UNICODE) == "  ⡐⠉"
    assert trend([0.0, 1.0, 1.0], 2, UNICODE) == "⣀⠉"
    assert trend([5.0], 2, UNICODE) == " ⣀"
    assert trend([], 2, UNICODE) == "  "
    assert trend([0.0, 7.0], 3, ASCII) == " _#"
    assert len(trend([float(number) for number in range(99)], 10, UNICODE)) == 10
