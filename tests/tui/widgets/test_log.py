from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from rich.text import Text

from p2pfl.observe.render import LogRow
from tests.support.drawn import alone, lines_of
from tui.symbols import clip
from tui.widgets.log import LogView


def rows(first: int, last: int) -> list[LogRow]:
    return [
        LogRow(seq, float(seq), "info", "·", "lab", "notice", f"line {seq}") for seq in range(first, last)
    ]


def show(view: LogView, lines: Sequence[LogRow]) -> None:
    view.show(lines, lambda row, width: Text(row.text[:width]))


async def numbers(app: Any, pilot: Any) -> list[int]:
    """Which lines are in sight; without the scrollbar."""
    return [int(line.split()[1]) for line in await lines_of(app, pilot) if line.startswith("line")]


async def test_the_newest_line_stays_in_sight() -> None:
    view = LogView()
    async with alone(view, (40, 4)) as (app, pilot, _):
        for last in (2, 3, 10, 11):
            show(view, rows(0, last))
            assert await numbers(app, pilot) == list(range(max(0, last - 4), last))


async def test_it_stands_still_while_somebody_reads() -> None:
    view = LogView()
    async with alone(view, (40, 4)) as (app, pilot, _):
        show(view, rows(0, 50))
        await pilot.press("up", "up")
        assert not view.follows
        assert await numbers(app, pilot) == [44, 45, 46, 47]
        show(view, rows(0, 60))
        assert await numbers(app, pilot) == [44, 45, 46, 47]


async def test_it_stands_still_when_old_lines_are_forgotten() -> None:
    view = LogView()
    async with alone(view, (40, 4)) as (app, pilot, _):
        show(view, rows(0, 50))
        await pilot.press("pageup")
        assert await numbers(app, pilot) == [26, 27, 28, 29]
        show(view, rows(20, 70))
        assert await numbers(app, pilot) == [26, 27, 28, 29]
        show(view, rows(40, 90))
        assert await numbers(app, pilot) == [40, 41, 42, 43]


async def test_the_wheel_holds_the_lines_and_following_goes_on_at_the_end() -> None:
    view = LogView()
    async with alone(view, (40, 4)) as (app, pilot, _):
        show(view, rows(0, 50))
        await lines_of(app, pilot)
        await pilot._post_mouse_events(
            [__import__("textual.events").events.MouseScrollUp], view, offset=(2, 2)
        )
        await lines_of(app, pilot)
        assert not view.follows
        view.follows = True
        show(view, rows(0, 51))
        assert await numbers(app, pilot) == [47, 48, 49, 50]


async def test_what_is_in_sight_can_be_had() -> None:
    view = LogView()
    async with alone(view, (40, 4)) as (app, pilot, _):
        assert list(view.visible_rows()) == []
        show(view, rows(0, 50))
        await pilot.press("home")
        await lines_of(app, pilot)
        assert [row.seq for row in view.visible_rows()] == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (300, 2)])
async def test_it_draws_at_any_size(size: Any) -> None:
    view = LogView()
    async with alone(view, size) as (app, pilot, _):
        show(view, [])
        await pilot.press("up", "pagedown", "home")
        show(view, rows(0, 30))
        await pilot.press("down", "pageup")
        assert len(await lines_of(app, pilot)) == size[1]


async def test_a_line_that_is_too_long_ends_in_an_ellipsis_also_beside_a_scrollbar() -> None:
    view = LogView()
    async with alone(view, (40, 4)) as (app, pilot, _):
        long = [LogRow(seq, 0.0, "info", "·", "lab", "notice", "x" * 50) for seq in range(50)]
        view.show(long, lambda row, width: Text(clip(row.text, width)))
        assert all(line.rstrip("▁▂▃▄▅▆▇█ ").endswith("x…") for line in await lines_of(app, pilot))
