"""Read the output of widgets and drawing functions as plain text."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from rich.text import Text
from textual.app import App
from textual.widget import Widget

from tui.theme import DARK, LIGHT


def plain(lines: Sequence[Text]) -> str:
    """*lines* without colours and trailing blanks, each after a newline."""
    return "".join(f"\n{line.plain.rstrip()}" for line in lines)


@asynccontextmanager
async def alone(widget: Widget, size: tuple[int, int], *, message: type | None = None) -> AsyncIterator[Any]:
    """Run an app with only *widget*, focused, on a screen of *size*; yield app, pilot and posted messages."""
    posted: list[object] = []

    class Alone(App[None]):
        ENABLE_COMMAND_PALETTE = False

        def compose(self) -> Iterator[Any]:
            yield widget

        def on_mount(self) -> None:
            self.register_theme(DARK)
            self.register_theme(LIGHT)
            self.theme = DARK.name
            widget.focus()

    def note(heard: object) -> None:
        if message is not None and isinstance(heard, message) and heard not in posted:
            posted.append(heard)

    app = Alone()
    async with app.run_test(size=size, message_hook=note) as pilot:
        await pilot.pause()
        yield app, pilot, posted


async def lines_of(app: App[None], pilot: Any) -> list[str]:
    """The lines on the screen, without trailing blanks."""
    await pilot.pause()
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]


def styles_of(app: App[None], text: str) -> set[str]:
    """The styles (colours and attributes) of all segments whose text is exactly *text*."""
    strips = app.screen._compositor.render_strips()
    return {str(segment.style) for strip in strips for segment in strip if segment.text.strip() == text}
