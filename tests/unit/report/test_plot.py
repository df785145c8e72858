from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from p2pfl.events import RoundRow
from p2pfl.report.plot import HEIGHT, MAX_DOTS, WIDTH, svg
from tests.support.any_events import struct
from tests.support.recordings import big, finished, rows_of, score_of

ROWS = rows_of(finished())


def parts(text: str, tag: str) -> list[ET.Element]:
    return ET.fromstring(text).findall(f"{{http://www.w3.org/2000/svg}}{tag}")


def texts(text: str) -> list[str]:
    return [part.text or "" for part in parts(text, "text")]


def points(part: ET.Element) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in part.attrib["points"].split())
    return [(float(x), float(y)) for x, y in pairs]


def places(text: str) -> list[tuple[float, float]]:
    """All places of shapes and words."""
    found = [point for tag in ("polyline", "polygon") for part in parts(text, tag) for point in points(part)]
    found += [(float(part.attrib["x"]), float(part.attrib["y"])) for part in parts(text, "text")]
    for line in parts(text, "line"):
        found += [(float(line.attrib[f"x{end}"]), float(line.attrib[f"y{end}"])) for end in "12"]
    return found


def test_it_shows_accuracy_and_loss_over_the_rounds() -> None:
    text = svg(ROWS)
    accuracy, loss = (points(part) for part in parts(text, "polyline"))
    assert len(accuracy) == len(loss) == 20
    assert all(before[0] < after[0] for before, after in pairwise(accuracy))
    assert accuracy[0][1] > accuracy[-1][1]  # y grows downwards
    assert loss[0][1] < loss[-1][1]
    assert {"Accuracy", "Loss", "round"} <= set(texts(text))


def test_the_heading_says_what_is_shown() -> None:
    assert (
        texts(svg(ROWS))[0]
        == f"Run {ROWS[0].run[:7]}: 20 rounds, 6 members, accuracy {ROWS[19].accuracy:.4f}"
    )
    assert texts(svg(ROWS[:1]))[0].startswith(f"Run {ROWS[0].run[:7]}: 1 round, 6 members")


def test_a_band_spans_the_worst_and_the_best_member() -> None:
    scores = (score_of("a", 2, 10, 1.0), score_of("b", 8, 10, 1.0))
    rows = [replace(row, metrics={"accuracy": 0.5, "loss": 0.1}, scores=scores) for row in ROWS[:2]]
    text = svg(rows)
    low, middle, high = (
        points(part) for part in (parts(text, "polygon")[0], *parts(text, "polyline")[:1] * 2)
    )
    heights = {y for _, y in low}
    assert len(heights) == 2
    assert min(heights) < middle[0][1] < max(heights)
    assert high == middle


def test_one_member_alone_is_no_band() -> None:
    rows = [replace(row, scores=row.scores[:1]) for row in ROWS[:3]]
    assert parts(svg(rows), "polygon") == []
    assert "members, min-max" not in texts(svg(rows))


def test_models_of_one_node_alone_are_dashed_lines_in_the_plot_of_the_accuracy() -> None:
    text = svg(ROWS, [0.7, 0.8])
    dashed = [line for line in parts(text, "line") if "stroke-dasharray" in line.attrib]
    assert len(dashed) == 3  # two, and the one of the legend
    assert "one node's data alone: 0.700 to 0.800" in texts(text)


def test_rounds_that_nobody_evaluated_are_left_out() -> None:
    rows = [replace(row, metrics={}, scores=()) if row.round == 3 else row for row in ROWS[:5]]
    assert len(points(parts(svg(rows), "polyline")[0])) == 4


def test_long_runs_have_no_dots_and_few_ticks() -> None:
    text = svg(rows_of(big(3, 500)))
    assert parts(text, "circle") == []
    assert {"1", "50", "100", "450"} <= set(texts(text))
    assert len(texts(text)) < 50
    assert len(parts(svg(ROWS), "circle")) == 40 <= 2 * MAX_DOTS


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS[:2], ROWS, ROWS[-1:]])
def test_everything_is_inside_whatever_there_is(rows: Sequence[RoundRow]) -> None:
    for x, y in places(svg(rows, [0.1])):
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT


def test_no_rounds_say_so() -> None:
    assert texts(svg([]))[0] == "No round is committed yet"


@settings(max_examples=100, deadline=None)
@given(st.lists(struct(RoundRow), max_size=6), st.lists(st.floats(0, 1), max_size=3))
def test_any_rounds_make_an_svg(rows: list[RoundRow], alone: list[float]) -> None:
    ET.fromstring(svg(rows, alone))


def test_the_heading_says_that_the_last_accuracy_is_only_reported() -> None:
    rows = rows_of(finished())
    assert "reported" not in svg(rows)
    assert "as 6 reported" in svg([*rows[:-2], replace(rows[-2], committed=False)])


def test_a_metric_without_a_loss_has_the_whole_height() -> None:
    rows = [replace(row, metrics={"dice": row.accuracy}, scores=(), primary="dice") for row in ROWS[:5]]
    text = svg(rows)
    assert len(parts(text, "polyline")) == 1
    assert "Dice" in texts(text)
    assert "Loss" not in texts(text)
    assert texts(text)[0].endswith(f"dice {ROWS[4].accuracy:.4f}")
    assert max(y for _, y in places(text)) <= HEIGHT
