"""An SVG that moves by itself: which pieces are in it, and when each is visible."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui.film import CELL_HEIGHT, CELL_WIDTH, FilmRun, film_svg, runs_of

BACK, FRONT = "#101010", "#eeeeee"


def runs(*rows: str) -> list[list[FilmRun]]:
    return [[FilmRun(0, row.ljust(20), FRONT, BACK, False)] for row in rows]


def visible(svg: str, text: str, count: int) -> list[int]:
    """The frames of *count* in which the animation shows *text*."""
    (name,) = re.findall(rf'<g(?: class="(\w+)")?>(?:(?!</g>).)*>{re.escape(text)}</text>', svg)
    if not name:
        return [*range(count)]
    (keys,) = re.findall(rf"@keyframes {name}{{(.*)}}\n", svg + "\n")
    steps = [
        (float(part), word == "visible") for part, word in re.findall(r"([\d.]+)%{visibility:(\w+)}", keys)
    ]
    return [
        number
        for number in range(count)
        if [is_shown for part, is_shown in steps if part <= 100 * number / count + 0.01][-1]
    ]


def test_a_row_becomes_runs_of_cells_that_look_the_same() -> None:
    strip = Strip(
        [
            Segment("ab", Style.parse("bold #ff0000")),
            Segment("c", Style.parse("bold #ff0000")),
            Segment(" 日", Style.parse("reverse #ff0000 on #0000ff")),
            Segment("x", Style.parse("dim #202020")),
            Segment("y"),
        ]
    )
    assert runs_of(strip, FRONT, BACK) == [
        FilmRun(0, "abc", "#ff0000", BACK, True),
        FilmRun(3, " 日", "#0000ff", "#ff0000", False),
        FilmRun(6, "x", "#181818", BACK, False),
        FilmRun(7, "y", FRONT, BACK, False),
    ]


def test_each_piece_is_in_the_file_once_and_visible_in_its_frames() -> None:
    frames = [runs("round 1  a", "same"), runs("round 2  a", "same"), runs("round 1  b", "same")]
    svg = film_svg(frames, 0.5, BACK, "<a film>")
    assert [svg.count(f">{text}<") for text in ("round 1", "round 2", "a", "b", "same")] == [1] * 5
    assert visible(svg, "round 1", 3) == [0, 2]
    assert visible(svg, "round 2", 3) == [1]
    assert visible(svg, "a", 3) == [0, 1]
    assert visible(svg, "b", 3) == [2]
    assert visible(svg, "same", 3) == [0, 1, 2]
    assert "animation:1.5s step-end infinite" in svg
    assert ElementTree.fromstring(svg).get("viewBox") == f"0 0 {20 * CELL_WIDTH} {2 * CELL_HEIGHT}"


def test_without_animation_the_last_frame_is_shown() -> None:
    svg = film_svg([runs("first"), runs("last")], 0.5, BACK, "")
    still = svg.partition("@media not (prefers-reduced-motion:reduce)")[0]
    (hidden,) = re.findall(r"(\.t\d+){visibility:hidden}", still)
    assert f'class="{hidden[1:]}"' in svg
    assert re.search(rf'<g class="{hidden[1:]}"><text[^>]*>first<', svg)


def test_a_background_lies_below_all_text() -> None:
    one = [[FilmRun(0, "x" * 20, FRONT, "#0000ff", False)]]
    svg = film_svg([runs("text"), one], 0.5, BACK, "")
    assert svg.index('fill="#0000ff"') < svg.index(">text<")


@pytest.mark.parametrize("text", ["<b>&", "★ │"])
def test_any_text_is_valid_and_signs_get_the_width_of_their_cells(text: str) -> None:
    svg = film_svg([runs(text)], 0.5, BACK, "")
    assert text in [*ElementTree.fromstring(svg).itertext()]
    assert ("textLength" in svg) == (not text.isascii())
