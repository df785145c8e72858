"""After each tick every visible panel shows the state of that tick, also under a dialog."""

from __future__ import annotations

import random

import pytest
from textual.screen import Screen

from p2pfl.events import Published
from tests.support import recordings
from tests.support.screens import settle, shown
from tui.dialogs import ConfirmDialog, stopping

EVENTS = 200
"""Of a recording, spread over all of it."""

SIZES = [(60, 20), (80, 24), (100, 30), (120, 40), (200, 50)]


def text_of(screen: Screen[object]) -> str:
    strips = screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


def pieces(seed: int) -> list[list[Published]]:
    """Return a recording of a run in pieces of random length: what comes between two ticks."""
    chance = random.Random(seed)
    told = [*recordings.running(6, 12), *recordings.finished()[-3:]]
    cuts = sorted(chance.sample(range(1, len(told)), min(EVENTS, len(told)) // 8))
    return [told[start:end] for start, end in zip([0, *cuts], [*cuts, len(told)], strict=True)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
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
