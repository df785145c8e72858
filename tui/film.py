"""Draws frames of a screen as one SVG that moves by itself: for a README, where no script runs.

Each different piece of a row is in the file once, and CSS shows it in the frames that have it. A viewer that
plays no animations, or whose user wants none, shows the last frame.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import NamedTuple

from rich.cells import cell_len
from rich.color import Color
from rich.style import Style
from textual.strip import Strip

CELL_WIDTH, CELL_HEIGHT, BASELINE = 8, 17, 13
"""Of a character, in pixels."""

FONT = "13.3px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace"
"""A monospaced letter is about 0.6 as wide as its font is high: CELL_WIDTH."""

_PIECES = re.compile(r"\S+(?: \S+)*")
"""Words with single blanks between them: what is beyond a gap changes by itself."""


class FilmRun(NamedTuple):
    """Neighbouring cells of a row that look the same."""

    column: int
    text: str
    colour: str
    """As #rrggbb, also *background*."""
    background: str
    is_bold: bool


def runs_of(strip: Strip, colour: str, background: str) -> list[FilmRun]:
    """Return the row *strip* as runs; *colour* and *background* hold where it names none."""
    found: list[FilmRun] = []
    column = 0
    for segment in strip:
        run = _run(column, segment.text, segment.style or Style(), colour, background)
        column += cell_len(run.text)
        if found and found[-1][2:] == run[2:]:
            found[-1] = found[-1]._replace(text=found[-1].text + run.text)
        else:
            found.append(run)
    return found


def _run(column: int, text: str, style: Style, colour: str, background: str) -> FilmRun:
    front, back = _hex(style.color, colour), _hex(style.bgcolor, background)
    if style.reverse:
        front, back = back, front
    if style.dim:
        front = _between(front, back)
    return FilmRun(column, text, front, back, bool(style.bold))


def _hex(colour: Color | None, default: str) -> str:
    return default if colour is None or colour.is_default else colour.get_truecolor().hex


def _between(one: str, other: str) -> str:
    """Return the colour in the middle of two."""
    pairs = ((int(one[place : place + 2], 16), int(other[place : place + 2], 16)) for place in (1, 3, 5))
    return "#" + "".join(f"{(first + second) // 2:02x}" for first, second in pairs)


def film_svg(frames: Sequence[Sequence[Sequence[FilmRun]]], step: float, background: str, title: str) -> str:
    """Return *frames*, each with the runs of its rows, as an SVG that shows each for *step* seconds."""
    looks: dict[tuple[str, bool], str] = {}
    behind: dict[str, list[int]] = {}
    front: dict[str, list[int]] = {}
    for number, frame in enumerate(frames):
        for row, runs in enumerate(frame):
            for run in runs:
                if run.background != background:
                    behind.setdefault(_block(row, run), []).append(number)
                for text in _texts(row, run, looks):
                    front.setdefault(text, []).append(number)
    times: dict[tuple[int, ...], str] = {}
    groups = [*_groups(behind, times, len(frames)), *_groups(front, times, len(frames))]
    width = sum(cell_len(run.text) for run in frames[0][0]) * CELL_WIDTH
    height = len(frames[0]) * CELL_HEIGHT
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>text{{font:{FONT};white-space:pre}}",
            *(_look(name, *look) for look, name in looks.items()),
            *_animations(times, len(frames), step),
            "</style>",
            f'<rect width="{width}" height="{height}" fill="{background}"/>',
            *groups,
            "</svg>\n",
        ]
    )


def _look(name: str, colour: str, is_bold: bool) -> str:
    return f".{name}{{fill:{colour}{';font-weight:bold' if is_bold else ''}}}"


def _block(row: int, run: FilmRun) -> str:
    """Return the background of *run*."""
    x, y, width = run.column * CELL_WIDTH, row * CELL_HEIGHT, cell_len(run.text) * CELL_WIDTH
    return f'<rect x="{x}" y="{y}" width="{width}" height="{CELL_HEIGHT}" fill="{run.background}"/>'


def _texts(row: int, run: FilmRun, looks: dict[tuple[str, bool], str]) -> Iterator[str]:
    """Yield the pieces of the text of *run*; *looks* gets the class of each way that text looks."""
    for found in _PIECES.finditer(run.text):
        text = found[0]
        look = looks.setdefault((run.colour, run.is_bold), f"s{len(looks)}")
        x = (run.column + cell_len(run.text[: found.start()])) * CELL_WIDTH
        width = cell_len(text) * CELL_WIDTH
        # Signs may come from another font, of another width.
        fit = "" if text.isascii() else f' textLength="{width}" lengthAdjust="spacingAndGlyphs"'
        yield f'<text x="{x}" y="{row * CELL_HEIGHT + BASELINE}" class="{look}"{fit}>{escape(text)}</text>'


def _groups(elements: dict[str, list[int]], times: dict[tuple[int, ...], str], count: int) -> Iterator[str]:
    """Yield the *elements* that the same frames have, together; *times* gets their class."""
    together: dict[tuple[int, ...], list[str]] = {}
    for element, numbers in elements.items():
        together.setdefault(tuple(numbers), []).append(element)
    for shown, these in together.items():
        kind = f' class="{times.setdefault(shown, f"t{len(times)}")}"' if len(shown) < count else ""
        yield f"<g{kind}>{''.join(these)}</g>"


def _animations(times: dict[tuple[int, ...], str], count: int, step: float) -> Iterable[str]:
    """Yield the rules that show each group in its frames of *count*, and without animation in the last."""
    early = [f".{name}" for shown, name in times.items() if shown[-1] != count - 1]
    if early:
        yield f"{','.join(early)}{{visibility:hidden}}"
    if times:
        names = ",".join(f".{name}" for name in times.values())
        yield "@media not (prefers-reduced-motion:reduce){"
        yield f"{names}{{animation:{step * count:g}s step-end infinite}}"
        for shown, name in times.items():
            yield f".{name}{{animation-name:{name}}}@keyframes {name}{{{_keys(shown, count)}}}"
        yield "}"


def _keys(shown: tuple[int, ...], count: int) -> str:
    """Return where a group of the frames *shown* of *count* begins and ceases to be visible."""
    steps = []
    for number in range(count):
        is_visible = number in shown
        if not number or is_visible != (number - 1 in shown):
            word = "visible" if is_visible else "hidden"
            steps.append(f"{100 * number / count:.4g}%{{visibility:{word}}}")
    return "".join(steps)
