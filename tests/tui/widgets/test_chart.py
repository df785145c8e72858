from __future__ import annotations

import math
from typing import Any

import pytest

from tests.support.drawn import alone, lines_of
from tests.support.recordings import HOSTILE
from tui.symbols import glyphs
from tui.widgets.chart import Chart
from tui.widgets.plot import Band, Series

CURVE = tuple((float(r), 1 - 0.9 * math.exp(-r / 6)) for r in range(1, 43))
MINE = tuple((x, y - 0.1 if x < 42 else None) for x, y in CURVE)
SERIES = (Series("global", CURVE, "global"), Series("me", MINE, "me", "dashed"))
BAND = Band(tuple((x, y - 0.2) for x, y in CURVE), tuple((x, y) for x, y in CURVE))
SIZE = (60, 8)


async def legend(app: Any, pilot: Any) -> str:
    return (await lines_of(app, pilot))[0]


async def test_a_legend_with_the_last_values_above_the_plot() -> None:
    chart = Chart()
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show("Accuracy", SERIES, BAND)
        lines = await lines_of(app, pilot)
        assert chart.border_title == "Accuracy"
        assert lines[0] == " ━ global 0.999  ╌ me 0.899  ░ members"
        assert lines[1].startswith("     1┤")
        assert lines[-1].split() == ["1", "11", "22", "32", "42"]


async def test_the_cursor_reads_values_out_and_stays_at_its_round() -> None:
    chart = Chart()
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show("Accuracy", SERIES, None)
        await pilot.press("left")
        assert await legend(app, pilot) == " at 42  ━ global 0.999  ╌ me"
        await pilot.press("left")
        assert await legend(app, pilot) == " at 41  ━ global 0.999  ╌ me 0.899"
        more = tuple((x, y) for x, y in (*CURVE, (43.0, 0.5)))
        chart.show("Accuracy", [Series("global", more, "global"), SERIES[1]], None)
        assert (await legend(app, pilot)).startswith(" at 41  ━ global 0.999")
        await pilot.press("right", "right", "right")
        assert (await legend(app, pilot)).startswith(" ━ global 0.500")


async def test_the_cursor_stops_at_the_first_value() -> None:
    chart = Chart()
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show("Accuracy", [Series("global", CURVE[:2], "global")], None)
        await pilot.press("left", "left", "left", "left", "right")
        assert (await legend(app, pilot)).startswith(" at 2 ")


async def test_the_cursor_of_rounds_is_no_cursor_of_times() -> None:
    chart = Chart()
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show("Accuracy", SERIES, None)
        await pilot.press("left")
        chart.show("Accuracy", [Series("global", ((0.0, 0.1), (3600.0, 0.2)), "global")], None, x_kind="time")
        assert chart.border_title == "Accuracy over time"
        assert await legend(app, pilot) == " ━ global 0.200"
        await pilot.press("left")
        assert await legend(app, pilot) == " at 60m  ━ global 0.200"


async def test_zoom_shows_less_of_the_past_and_all_again() -> None:
    chart = Chart()
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show("Accuracy", SERIES, BAND)
        await pilot.press("plus", "plus")
        assert chart.border_title == "Accuracy · last 1/4"
        assert (await lines_of(app, pilot))[-1].split()[0] == "32"
        await pilot.press("minus", "minus", "minus")
        assert chart.border_title == "Accuracy"
        assert (await lines_of(app, pilot))[-1].split()[0] == "1"


async def test_series_are_hidden_one_by_one_and_then_all_shown() -> None:
    chart = Chart()
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show("Accuracy", SERIES, BAND)
        legends = []
        for _ in range(3):
            await pilot.press("h")
            legends.append((await legend(app, pilot)).strip())
        assert legends == [
            "(global)  ╌ me 0.899  ░ members",
            "(global)  (me)  ░ members",
            "━ global 0.999  ╌ me 0.899  ░ members",
        ]


async def test_the_same_values_again_are_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    chart = Chart()
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show("Accuracy", SERIES, BAND)
        await lines_of(app, pilot)
        drawn: list[int] = []
        draw = chart._draw

        def counted() -> Any:
            drawn.append(1)
            return draw()

        monkeypatch.setattr(chart, "_draw", counted)
        chart.show("Accuracy", list(SERIES), Band(*BAND))
        await lines_of(app, pilot)
        assert drawn == []
        chart.show("Accuracy", SERIES[:1], BAND)
        await lines_of(app, pilot)
        assert drawn == [1]


async def test_other_signs_are_drawn_when_they_are_asked_for() -> None:
    chart = Chart()
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show("Accuracy", SERIES, BAND)
        await lines_of(app, pilot)
        chart.glyphs = glyphs(ascii_only=True)
        lines = await lines_of(app, pilot)
        assert lines[0] == " * global 0.999  o me 0.899  : members"
        assert all(line.isascii() for line in lines)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (20, 3), (20, 4), (200, 50)])
async def test_it_draws_at_any_size_and_after_any_key(size: Any) -> None:
    chart = Chart()
    async with alone(chart, size) as (app, pilot, _):
        await pilot.press("left", "right", "plus", "minus", "h")
        chart.show(HOSTILE, [Series(HOSTILE, ((1.0, math.nan), (2.0, 1e300)), "global")], None)
        await pilot.press("left", "left", "right", "plus", "minus", "h")
        chart.show("Loss", SERIES, BAND)
        await pilot.press("left", "plus", "h")
        await pilot.resize_terminal(size[0] + 7, size[1] + 3)
        assert len(await lines_of(app, pilot)) == size[1] + 3
