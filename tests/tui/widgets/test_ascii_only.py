from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from tests.support import recordings
from tests.support.screens import settle, shown, text_of
from tui.widgets.ascii_only import AsciiOnly, ascii_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("╭─ Peers 6 · 1 lost ─╮", "+- Peers 6 - 1 lost -+"),
        ("│ ▓▓▒░ › ▲▼ … —", "| ##=- > ^v ~ -"),
        ("日本", "????"),
        ("Zo\u0065\u0301", "Zoe"),
        ("❤\ufe0f!", "?! "),
        ("⣀⡤⠤", "???"),
    ],
)
def test_every_sign_has_a_twin_of_its_width(text: str, expected: str) -> None:
    assert ascii_of(text) == expected
    assert len(ascii_of(text)) == cell_len(text)


def test_styles_stay() -> None:
    style = Style(bold=True)
    plain, sign = AsciiOnly().apply([Segment("a", style), Segment("✓", style)], Color.parse("black"))
    assert plain == Segment("a", style)
    assert sign == Segment("+", style)


@pytest.mark.parametrize(
    ("tale", "size"),
    [(recordings.running, (120, 40)), (recordings.hostile, (80, 24)), (recordings.waiting, (60, 20))],
)
async def test_nothing_else_is_on_any_screen(tale: Callable[..., Any], size: tuple[int, ...]) -> None:
    async with shown(tale(), size, ascii_only=True) as (app, pilot, _):
        for key in ("1", "2", "3", "4", "5", "question_mark"):
            await pilot.press(key)
            await settle(app, pilot)
            assert text_of(app).isascii(), key


async def test_a_running_app_switches_and_switches_back() -> None:
    async with shown(recordings.running(), (120, 40)) as (app, pilot, _):
        app.screen.draw(everything=True)
        await settle(app, pilot)
        before = text_of(app)
        app.action_switch_symbols()
        await settle(app, pilot)
        assert text_of(app).isascii()
        app.action_switch_symbols()
        await settle(app, pilot)
        assert text_of(app) == before
