from __future__ import annotations

import math
from typing import Any

import pytest
from textual.events import Leave

from tests.support.drawn import alone, lines_of
from tests.support.recordings import HOSTILE
from tui.symbols import glyphs
from tui.widgets.chart import Chart
from tui.widgets.plot import Band, ChartMark, ChartValues, Series

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
        chart.show_values(ChartValues("Accuracy", SERIES, BAND))
        lines = await lines_of(app, pilot)
        assert chart.border_title == "Accuracy"
        assert lines[0] == " ━ global 0.999  ╌ me 0.899  ░ members"
        assert lines[1].startswith("     1┤")
        assert lines[-1].split() == ["1", "10", "20", "30", "42"]


async def test_the_cursor_reads_values_out_and_stays_at_its_round() -> None:
    chart = Chart()
    marks = [
        ChartMark(float(x), "loss", f"{name} lost")
        for x, name in zip((41, 41, 41, 41, 42), "abcde", strict=True)
    ]
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show_values(
            ChartValues("Accuracy", SERIES, marks=tuple(marks), note="highest 0.999 in round 42")
        )
        assert str(chart.border_subtitle) == "highest 0.999 in round 42"
        await pilot.press("left")
        first = await legend(app, pilot)
        assert first == " ━ global 0.999  ╌ me        ✗ gone"
        assert str(chart.border_subtitle) == "round 42 · ✗ e lost"
        await pilot.press("left")
        second = await legend(app, pilot)
        assert second == " ━ global 0.999  ╌ me 0.899  ✗ gone", "nothing moves"
        assert str(chart.border_subtitle) == "round 41 · ✗ a lost · ✗ b lost · ✗ c lost and 1 more"
        more = tuple((x, y) for x, y in (*CURVE, (43.0, 0.5)))
        chart.show_values(ChartValues("Accuracy", (Series("global", more, "global"), SERIES[1])))
        assert str(chart.border_subtitle) == "round 41"
        await pilot.press("right", "right", "right")
        assert (await legend(app, pilot)).startswith(" ━ global 0.500")
        await pilot.press("shift+left")
        assert str(chart.border_subtitle) == "round 34"


async def test_the_cursor_stops_at_the_first_value_and_a_level_has_its_value_everywhere() -> None:
    chart = Chart()
    level = Series("best alone", ((1.0, 0.8), (9.0, 0.8)), "alone", "dotted", is_level=True)
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show_values(ChartValues("Accuracy", (Series("global", CURVE[:2], "global"), level)))
        await pilot.press("left", "left", "left", "left", "right")
        assert str(chart.border_subtitle) == "round 2"
        assert (await legend(app, pilot)).endswith("best alone 0.800")


async def test_the_cursor_of_rounds_is_no_cursor_of_times() -> None:
    chart = Chart()
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show_values(ChartValues("Accuracy", SERIES))
        await pilot.press("left")
        later = Series("global", ((0.0, 0.1), (3600.0, 0.2)), "global")
        chart.show_values(ChartValues("Accuracy", (later,), x_kind="time"))
        assert chart.border_title == "Accuracy over time"
        assert await legend(app, pilot) == " ━ global 0.200"
        assert not str(chart.border_subtitle)
        await pilot.press("left")
        assert str(chart.border_subtitle) == "after 60m"


async def test_the_pointer_shows_values_and_a_click_fixes_the_cursor() -> None:
    chart = Chart()
    async with alone(chart, SIZE, message=Chart.Pointed) as (app, pilot, posted):
        chart.show_values(ChartValues("Accuracy", SERIES))
        await lines_of(app, pilot)
        await pilot.hover(chart, offset=(7, 3))
        assert str(chart.border_subtitle) == "round 1"
        assert posted[-1].x == 1.0
        chart.post_message(Leave(chart))
        await pilot.pause()
        assert not str(chart.border_subtitle)
        await pilot.click(chart, offset=(59, 3))
        assert (str(chart.border_subtitle), chart.is_pinned) == ("round 42", True)
        await pilot.hover(chart, offset=(7, 3))
        chart.post_message(Leave(chart))
        await pilot.pause()
        assert str(chart.border_subtitle) == "round 42"
        await pilot.click(chart, offset=(59, 3))
        assert (str(chart.border_subtitle), chart.is_pinned) == ("", False)
        await pilot.click(chart, offset=(2, 3))
        assert not str(chart.border_subtitle)


async def test_a_loss_that_spans_a_decade_is_logarithmic_unless_somebody_wants_it_linear() -> None:
    chart = Chart()
    loss = (Series("global", tuple((float(x), 2 * 0.9**x) for x in range(42)), "global"),)
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show_values(ChartValues("Loss", loss, is_loss=True))
        assert chart.border_title == "Loss · log"
        ticks = [line.split("┤")[0].strip() for line in await lines_of(app, pilot) if "┤" in line]
        assert ticks == ["1", "0.1"]
        chart.action_scale()
        titles = [str(chart.border_title)]
        chart.show_values(ChartValues("Loss", (loss[0], *SERIES), is_loss=True))
        titles.append(str(chart.border_title))
        chart.show_values(ChartValues("MAE", loss, is_loss=True))
        titles.append(str(chart.border_title))
        chart.show_values(ChartValues("Accuracy", loss))
        titles.append(str(chart.border_title))
        chart.action_scale()
        titles.append(str(chart.border_title))
        assert titles == ["Loss", "Loss", "MAE · log", "Accuracy", "Accuracy · log"]


async def test_zoom_shows_less_of_the_past_and_all_again() -> None:
    chart = Chart()
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show_values(ChartValues("Accuracy", SERIES, BAND))
        await pilot.press("plus", "plus")
        assert chart.border_title == "Accuracy · last 1/4"
        assert (await lines_of(app, pilot))[-1].split()[0] == "32"
        await pilot.press("minus", "minus", "minus")
        assert chart.border_title == "Accuracy"
        assert (await lines_of(app, pilot))[-1].split()[0] == "1"


async def test_series_are_hidden_one_by_one_and_then_all_shown() -> None:
    chart = Chart()
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show_values(ChartValues("Accuracy", SERIES, BAND))
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
        chart.show_values(ChartValues("Accuracy", SERIES, BAND))
        await lines_of(app, pilot)
        drawn: list[int] = []
        draw = chart._draw

        def counted() -> Any:
            drawn.append(1)
            return draw()

        monkeypatch.setattr(chart, "_draw", counted)
        chart.show_values(ChartValues("Accuracy", SERIES, Band(*BAND)))
        await lines_of(app, pilot)
        assert drawn == []
        chart.show_values(ChartValues("Accuracy", SERIES[:1], BAND))
        await lines_of(app, pilot)
        assert drawn == [1]


async def test_other_signs_are_drawn_when_they_are_asked_for() -> None:
    chart = Chart()
    async with alone(chart, SIZE) as (app, pilot, _):
        chart.show_values(ChartValues("Accuracy", SERIES, BAND))
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
        odd = Series(HOSTILE, ((1.0, math.nan), (2.0, 1e300)), "global")
        chart.show_values(ChartValues(HOSTILE, (odd,)))
        await pilot.press("left", "left", "right", "plus", "minus", "h")
        chart.show_values(ChartValues("Loss", SERIES, BAND))
        await pilot.press("left", "plus", "h")
        await pilot.resize_terminal(size[0] + 7, size[1] + 3)
        assert len(await lines_of(app, pilot)) == size[1] + 3
