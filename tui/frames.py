"""Draws a recording without a terminal: one frame or all of it as SVG, or all of it for asciinema.

The app runs headless with a clock that stands still; what is drawn depends on the recording only.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from p2pfl.errors import UserError
from p2pfl.paths import full, shown
from p2pfl.text import one_line
from tui.app import TICK_SECONDS, Tui
from tui.film import film_svg, runs_of
from tui.source import FASTEST, Replay
from tui.theme import DARK

if TYPE_CHECKING:
    from textual.pilot import Pilot

SIZE = (120, 40)
"""Columns and rows, unless others are given."""

SMALLEST, LARGEST = (20, 5), (300, 100)
"""Limits of the size."""

CAST_SECONDS = 60.0
"""Without a speed an asciinema recording is made to last at most this long."""

MAX_FRAMES = 1200
"""Frames of an asciinema recording at most: five minutes."""

MAX_CAST_BYTES = 16 * 1024 * 1024
"""Size of an asciinema recording at most."""

FILM_SECONDS = 20.0
"""Without a speed an SVG that moves is made to last this long."""

FILM_END_SECONDS = 4.0
"""The last frame of an SVG that moves stands so long."""

FILM_STEP_SECONDS = 0.5
"""From one frame of an SVG that moves to the next."""

MAX_FILM_FRAMES = 120
"""Frames of an SVG that moves at most: a minute."""

MAX_FILM_BYTES = 2 * 1024 * 1024
"""Size of an SVG that moves at most."""

_AT = re.compile(r"r(?P<round>\d{1,9})|(?P<seconds>\d{1,9}(\.\d{1,6})?)")
_SIZE = re.compile(r"(\d{1,4})x(\d{1,4})")


class Look(NamedTuple):
    """How frames look."""

    size: tuple[int, int] = SIZE
    theme: str = DARK.name
    ascii_only: bool = False


class _Headless(Tui):
    """The app without what happens by real time: no bell, and no toasts, which would stay for seconds."""

    def notify(self, *_: object, **__: object) -> None:
        """Show nothing."""

    def bell(self) -> None:
        """Ring nothing."""


def size_of(text: str) -> tuple[int, int]:
    """Return the columns and rows of *text*, such as 120x40.

    Raises:
        UserError: it is no size, or out of bounds.
    """
    found = _SIZE.fullmatch(text)
    if found is not None:
        width, height = int(found[1]), int(found[2])
        if SMALLEST[0] <= width <= LARGEST[0] and SMALLEST[1] <= height <= LARGEST[1]:
            return width, height
    least, most = (f"{width}x{height}" for width, height in (SMALLEST, LARGEST))
    raise UserError(f"--size is columns and rows from {least} to {most}, such as 120x40, not {text!r}")


def moment_of(replay: Replay, text: str | None) -> float:
    """Return the time in *replay* that *text* names: seconds from the beginning, rN, or None for the end.

    Raises:
        UserError: it is neither, or there is no such round.
    """
    if text is None:
        return replay.begin + replay.seconds
    found = _AT.fullmatch(text)
    if found is None:
        raise UserError(f"--at is seconds from the beginning or a round such as r3, not {text!r}")
    if found["seconds"] is not None:
        return replay.begin + float(found["seconds"])
    number = int(found["round"])
    if number not in replay.rounds:
        known = [*replay.rounds]
        has = f"it has the rounds {known[0]} to {known[-1]}" if known else "it has none"
        raise UserError(f"round {number} is not committed in {shown(replay.path)}: {has}")
    return replay.rounds[number]


def write_svg(replay: Replay, path: Path, at: str | None, look: Look) -> None:
    """Write the frame of *replay* at the moment *at* to *path*.

    Raises:
        UserError: there is no such moment, or the file cannot be written.
    """
    moment = moment_of(replay, at)
    target = _writable(path)
    _write(target, asyncio.run(_svg(replay, moment, look)))


def write_film(replay: Replay, path: Path, speed: float | None, look: Look) -> int:
    """Write all of *replay* to *path* as an SVG that moves, at *speed*; return the number of frames.

    Raises:
        UserError: it would be too long or too large, or the file cannot be written.
    """
    fast = speed if speed is not None else _speed_for(replay, FILM_SECONDS)
    count = _count_frames("picture", replay.seconds / FILM_STEP_SECONDS, fast, MAX_FILM_FRAMES)
    target = _writable(path)
    text = asyncio.run(_film(replay, fast, count, look))
    if len(text.encode()) > MAX_FILM_BYTES:
        raise UserError(
            f"the picture would be larger than {MAX_FILM_BYTES >> 20} MiB: "
            "give a smaller --size or a higher --speed"
        )
    _write(target, text)
    return count


def write_cast(replay: Replay, path: Path, speed: float | None, look: Look) -> int:
    """Write *replay* to *path* for asciinema, at *speed*; return the number of frames.

    Raises:
        UserError: it would be too long or too large, or the file cannot be written.
    """
    fast = speed if speed is not None else _speed_for(replay, CAST_SECONDS)
    count = _count_frames("recording", replay.seconds / TICK_SECONDS, fast, MAX_FRAMES)
    target = _writable(path)
    text, frames = asyncio.run(_cast(replay, fast, count, look))
    _write(target, text)
    return frames


def _count_frames(what: str, steps: float, speed: float, most: int) -> int:
    """Return the frames that *steps* at speed 1 make at *speed*.

    Raises:
        UserError: they are more than *most*; the message names a speed at which they are not.
    """
    count = int(steps / speed) + 2
    if count > most:
        least = math.ceil(steps / (most - 2))
        advice = f"give --speed {least}{' or more' if least < FASTEST else ''}"
        raise UserError(
            f"at --speed {speed:g} the {what} has {count} frames, and {most} are the most: "
            f"{advice if least <= FASTEST else 'leave out --speed'}"
        )
    return count


def _title(replay: Replay) -> str:
    """Return the command that shows *replay*, as text for XML, which allows no control characters."""
    return one_line(f"p2pfl tui --replay {replay.path.name}")


def _speed_for(replay: Replay, seconds: float) -> float:
    """Return the lowest speed with at most one decimal at which *replay* lasts at most *seconds*."""
    return max(1.0, math.ceil(replay.seconds / seconds * 10) / 10)


async def _svg(replay: Replay, moment: float, look: Look) -> str:
    app = _app(replay, look)
    async with app.run_test(size=look.size) as pilot:
        await _go(app, pilot, replay, moment)
        return app.export_screenshot(title=_title(replay))


async def _film(replay: Replay, speed: float, count: int, look: Look) -> str:
    app = _app(replay, look)
    replay.speed = speed
    frames = []
    async with app.run_test(size=look.size) as pilot:
        for number in range(count):
            await _go(app, pilot, replay, replay.begin + number * FILM_STEP_SECONDS * speed)
            colours = app.theme_variables["foreground"], app.theme_variables["background"]
            strips = app.screen._compositor.render_strips()  # noqa: SLF001 - Textual exports one frame only
            frames.append([runs_of(strip, *colours) for strip in strips])
    frames += frames[-1:] * round(FILM_END_SECONDS / FILM_STEP_SECONDS)
    return film_svg(frames, FILM_STEP_SECONDS, colours[1], _title(replay))


async def _cast(replay: Replay, speed: float, count: int, look: Look) -> tuple[str, int]:
    width, height = look.size
    header = {
        "version": 2,
        "width": width,
        "height": height,
        "title": f"p2pfl, {replay.path.name} x{speed:g}",
    }
    lines = [json.dumps(header)]
    size, before = 0, [""] * height
    app = _app(replay, look)
    replay.speed = speed
    async with app.run_test(size=look.size) as pilot:
        for number in range(count):
            await _go(app, pilot, replay, replay.begin + number * TICK_SECONDS * speed)
            rows = _rows(app)
            text = (
                "".join(_changes(before, rows))
                if number
                else "\x1b[2J\x1b[?25l" + "".join(_changes([], rows))
            )
            before = rows
            if text:
                lines.append(json.dumps([round(number * TICK_SECONDS, 3), "o", text], ensure_ascii=False))
                size += len(lines[-1].encode()) + 1
            if size > MAX_CAST_BYTES:
                raise UserError(
                    f"the recording for asciinema would be larger than {MAX_CAST_BYTES >> 20} MiB: give a "
                    "smaller --size or a higher --speed"
                )
    return "\n".join(lines) + "\n", len(lines) - 1


def _app(replay: Replay, look: Look) -> _Headless:
    return _Headless(replay, ascii_only=look.ascii_only, theme=look.theme, clock=lambda: 0.0, ticks=False)


async def _go(app: Tui, pilot: Pilot[str], replay: Replay, moment: float) -> None:
    """Draw *moment*; panels that appear with it have a size only in a second drawing."""
    replay.go_to(moment)
    for _ in range(2):
        app.tick()
        await pilot.pause()


def _rows(app: Tui) -> list[str]:
    """Return each row of the screen with its colours, as a terminal takes it."""
    console = Console(
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        width=app.size.width,
        legacy_windows=False,
    )
    strips = app.screen._compositor.render_strips()  # noqa: SLF001 - Textual exports only SVG
    return [strip.render(console) for strip in strips]


def _changes(before: list[str], rows: list[str]) -> Iterator[str]:
    """Yield what changes the rows of the frame *before* to *rows*."""
    for number, row in enumerate(rows):
        if number >= len(before) or before[number] != row:
            yield f"\x1b[{number + 1};1H\x1b[0m{row}"


def _writable(path: Path) -> Path:
    """Return the full *path*; refuse one in a folder that is missing, before anything is drawn."""
    target = full(path)
    if target.is_dir() or not target.parent.is_dir():
        what = "a folder" if target.is_dir() else "in a folder that does not exist"
        raise UserError(f"{shown(path)} cannot be written: it is {what}; name a file in an existing folder")
    return target


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise UserError(f"{shown(path)} cannot be written: {error.strerror}") from error
