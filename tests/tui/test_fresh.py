"""After each tick every visible panel shows the state of that tick, also under a dialog; no more is drawn."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from rich.text import Text
from textual._compositor import Compositor
from textual.screen import Screen
from textual.strip import Strip

from p2pfl.events import Committed, EvaluationFinished, Published
from tests.support import recordings
from tests.support.drawn import alone, lines_of, styles_of
from tests.support.screens import settle, shown
from tui.dialogs import ConfirmDialog, stopping
from tui.screens import base
from tui.screens.base import Lines, RingPanel
from tui.screens.overview import LAST_ROUNDS
from tui.symbols import glyphs
from tui.widgets import chart
from tui.widgets.ring import RingNode, RingPicture

EVENTS = 200
"""Of a recording, spread over all of it."""

SIZES = [
    pytest.param((60, 20), id="60x20", marks=pytest.mark.long),
    pytest.param((80, 24), id="80x24"),
    pytest.param((100, 30), id="100x30", marks=pytest.mark.long),
    pytest.param((120, 40), id="120x40", marks=pytest.mark.long),
    pytest.param((200, 50), id="200x50"),
]


def text_of(screen: Screen[object]) -> str:
    strips = screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


def pieces(seed: int) -> list[list[Published]]:
    """Return a recording of a run in pieces of random length: what comes between two ticks."""
    chance = random.Random(seed)
    told = [*recordings.running(6, 12), *recordings.finished()[-3:]]
    cuts = sorted(chance.sample(range(1, len(told)), min(EVENTS, len(told)) // 8))
    return [told[start:end] for start, end in zip([0, *cuts], [*cuts, len(told)], strict=True)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("key", ["1", "2", "3", "4"])
async def test_no_panel_is_older_than_one_tick(size: tuple[int, int], key: str) -> None:
    async with shown([], size) as (app, pilot, _):
        await pilot.press(key)
        for number, piece in enumerate(pieces(size[0] + int(key))):
            for item in piece:
                app.session.deliver(item)
            await settle(app, pilot)
            drawn = text_of(app.screen)
            if number % 4 == 0:
                app.screen.draw(everything=True)
                await settle(app, pilot)
                assert drawn == text_of(app.screen), f"after {number + 1} pieces"


async def test_the_screen_below_a_dialog_stays_live() -> None:
    told = recordings.running(6, 12)
    async with shown(told[:-40], (120, 40)) as (app, pilot, _):
        below = app.screen
        app.push_screen(ConfirmDialog(stopping(app.session.state)))
        await settle(app, pilot)
        for item in told[-40:]:
            app.session.deliver(item)
        refreshed = []
        app.screen.refresh = lambda *_, **__: refreshed.append(True)
        app.tick()
        assert refreshed, "the dialog is drawn again, with the screen below it"
        drawn = text_of(below)
        below.draw(everything=True)
        assert drawn == text_of(below)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the screen was laid out and drawn as a whole, and charts and pictures were drawn."""
    counted: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            counted[name] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, counting)

    for owner, name in (
        (Compositor, "reflow"),
        (Compositor, "render_full_update"),
        (chart, "draw_plot"),
        (base, "draw_ring"),
    ):
        count(owner, name)
    return counted


async def test_a_decided_round_draws_each_chart_once_and_never_the_whole_screen(calls: Counter[str]) -> None:
    told = recordings.running(6, LAST_ROUNDS + 2)  # the table of rounds does not grow any more
    committed = [item.event for item in told if isinstance(item.event, Committed)][-1]
    scored = [item.event for item in told if isinstance(item.event, EvaluationFinished)][-1]
    number = committed.round + 1
    async with shown(told, (200, 50)) as (app, pilot, _):
        calls.clear()
        for event in (
            msgspec.structs.replace(committed, round=number, trained=number),
            msgspec.structs.replace(scored, round=number, metrics={"accuracy": 0.5, "loss": 1.0}),
        ):
            app.session.deliver(Published(app.session.state.seq + 1, app.session.now(), event))
        await settle(app, pilot)
        assert app.title == f"r{number} 50.0%"
        assert calls == {"draw_plot": 2, "draw_ring": 1}
        calls.clear()
        await settle(app, pilot)
        assert not calls, "nothing has changed"


async def test_of_a_panel_only_the_changed_lines_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = Lines()
    async with alone(panel, (20, 4)) as (app, pilot, _):
        panel.styles.height = 4
        await pilot.pause()
        drawn: list[int] = []

        def render_line(y: int) -> Strip:
            drawn.append(y)
            return Lines.render_line(panel, y)

        monkeypatch.setattr(panel, "render_line", render_line)

        async def after(*lines: Text) -> list[int]:
            drawn.clear()
            panel.show(lines)
            await pilot.pause()
            return sorted(set(drawn))

        assert await after(Text("one"), Text("two"), Text("three")) == [0, 1, 2]
        assert await after(Text("one"), Text("two"), Text("three")) == []
        assert await after(Text("one"), Text("2"), Text("three")) == [1]
        assert await after(Text("one"), Text("2"), Text("three", style="bad")) == [2]
        assert len(styles_of(app, "three")) == 1
        assert await after(Text("one"), Text("2")) == [2]
        assert await lines_of(app, pilot) == ["one", "2", "", ""]
        assert await after(*[Text("one"), Text("2")] * 3) == [2, 3]


async def test_a_panel_grows_with_its_lines_and_shortens_long_ones() -> None:
    panel = Lines()
    async with alone(panel, (20, 4)) as (app, pilot, _):
        panel.show([Text("one"), Text("a line that is too long for it")], grows=True)
        await pilot.pause()
        assert panel.size.height == 2
        assert await lines_of(app, pilot) == ["one", "a line that is too …", "", ""]


async def test_text_of_a_panel_can_be_selected_with_the_mouse() -> None:
    panel = Lines()
    async with alone(panel, (20, 4)) as (app, pilot, _):
        panel.styles.height = 4
        await pilot.pause()
        panel.show([Text("first line"), Text("日本 ").append("bad", style="bad").append(" end")])
        await pilot.pause()
        before = styles_of(app, "line")
        await pilot.mouse_down(panel, offset=(6, 0))
        await pilot.hover(panel, offset=(7, 1))
        await pilot.pause()
        assert app.screen.get_selected_text() == "line\n日本 bad"
        assert styles_of(app, "line") != before
        await pilot.mouse_up(panel, offset=(7, 1))


async def test_a_picture_is_drawn_when_it_changed_and_after_lines_were_in_its_place(
    calls: Counter[str],
) -> None:
    panel = RingPanel()
    signs = glyphs(ascii_only=False)
    one = RingPicture((RingNode("one", "*", "good", "", False),), (), ())
    async with alone(panel, (60, 11)) as (app, pilot, _):
        panel.styles.height = 11
        await pilot.pause()
        for picture in (one, one, one._replace(centre=(Text("here"),)), one):
            panel.show_ring(picture, signs)
        assert calls["draw_ring"] == 3
        panel.show([Text("no picture")])
        panel.show_ring(one, signs)
        assert calls["draw_ring"] == 4
        assert "one" in "".join(await lines_of(app, pilot))
