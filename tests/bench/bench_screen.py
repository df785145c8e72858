"""Measure the terminal UI: CPU of a tick with a large federation late in a long run, first paint, memory.

The app is the real one, at 200x50. The bench feeds it with events and discards its output. CPU is that of the
whole process, from the arrival of events until the screen is drawn.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
from textual.pilot import Pilot

from p2pfl import events
from p2pfl.events import LinkMeasure, Published
from p2pfl.observe.connection import Connected
from p2pfl.runtime.observing.publish import as_json
from tests.bench.command_line import Settings, run
from tests.bench.report import Figure
from tests.bench.screen_terminal import SIZE, Painted, Terminal
from tests.support.recordings import big, node_id_of
from tests.support.screens import EVERYTHING, Node, greeting
from tests.support.source import ROOT
from tui.app import Tui
from tui.symbols import glyphs
from tui.widgets.plot import Band, Series, draw_plot

PEERS, ROUNDS = 50, 500

DRAWN_SECONDS = 0.06
"""Wait after a tick. Textual draws up to 60 times a second, so everything is drawn by then."""

News = Callable[[int], Iterable[events.AnyEvent]]
"""Returns the events to deliver before a tick, from the number of the tick."""


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the CPU of ticks, the time of a chart, and the figures of the start."""
    ticks = 10 if settings.is_quick else 40
    recording = big(PEERS, ROUNDS)
    note = f"{PEERS} peers, {ROUNDS} rounds, {SIZE[0]}x{SIZE[1]}; median and 95 % of {ticks}"
    for screen, what, took in asyncio.run(ticks_of(recording, ticks)):
        name = f"tick of {screen}, {what}"
        yield Figure(name, statistics.median(took) * 1e3, "ms of CPU", 25.0, note=note)
        yield Figure(f"{name}, 95 %", sorted(took)[int(0.95 * len(took))] * 1e3, "ms of CPU")
    yield Figure(
        "a chart of three series and a band", chart_seconds(ticks) * 1e3, "ms of CPU", note="60x14 cells"
    )

    times = 3
    path = settings.folder / "events.jsonl"
    path.write_bytes(b"\n".join(as_json(item) for item in big(PEERS, 50)))
    compiled = compiled_in(settings.folder)
    first_paint(compiled, path)  # compiles all modules
    painted = [first_paint(compiled, path) for _ in range(times)]
    empty = statistics.median(first_paint(compiled).seconds for _ in range(times))
    seconds = statistics.median(one.seconds for one in painted)
    yield Figure("first paint", seconds, "s", 1.0, note=f"from process start, median of {times}")
    yield Figure("first paint of an app of eight panels with Textual", empty, "s", note="the same")
    yield Figure("first paint against that of eight panels", seconds / empty, "", 1.25)
    yield Figure("memory after the first paint", max(one.megabytes for one in painted), "MB")
    foreign = {name for one in painted for name in one.foreign}
    yield Figure(
        "of torch and numpy, imported by it", len(foreign), "modules", 0, note=", ".join(sorted(foreign))
    )


async def ticks_of(recording: list[Published], count: int) -> list[tuple[str, str, list[float]]]:
    """Return the CPU seconds of *count* ticks for each screen and each kind of change."""
    peers = sorted(
        {
            item.event.name: item.event for item in recording if isinstance(item.event, events.PeerStatus)
        }.items()
    )
    committed = [item.event for item in recording if isinstance(item.event, events.Committed)][-1]
    scored = [item.event for item in recording if isinstance(item.event, events.EvaluationFinished)][-1]

    def nothing(number: int) -> Iterable[events.AnyEvent]:
        return ()

    def everybody(number: int) -> Iterable[events.AnyEvent]:
        for index, (_, status) in enumerate(peers):
            yield msgspec.structs.replace(status, phase="training", progress=(number + index) % 50 / 50)
        links = tuple(
            LinkMeasure(node_id_of(name), 0.001 * (1 + (number + index) % 40), 10**7 * number, 10**6 * number)
            for index, (name, _) in enumerate(peers)
        )
        yield events.Measured(0.5, 500_000_000, links)

    def a_round(number: int) -> Iterable[events.AnyEvent]:
        this = committed.round + 1 + number
        yield msgspec.structs.replace(committed, round=this, trained=this, rounds=10_000)
        yield msgspec.structs.replace(
            scored, round=this, metrics=scored.metrics | {"accuracy": 0.9 + number % 7 / 100}
        )

    gc.collect()
    gc.freeze()  # as the program does after its imports
    cases = (("nothing new", nothing), ("all peers changed", everybody), ("a round decided", a_round))
    found = []
    clock = [recording[-1].time]
    app = Tui(Node(), ticks=False, clock=lambda: clock[0])
    app.driver_class = Terminal
    over = asyncio.create_task(app.run_async(size=SIZE))
    try:
        await asyncio.sleep(1.0)
        for item in recording:
            app.session.deliver(item)
        app.set_connection(Connected(greeting(may=EVERYTHING)))
        app.tick()
        for key, screen in (("1", "overview"), ("2", "peers"), ("4", "network")):
            await Pilot(app).press(key)
            await asyncio.sleep(0.5)
            for what, news in cases:
                found.append(
                    (screen, what, [await tick(app, clock, news, number) for number in range(count)])
                )
    finally:
        app.exit()
        await over
    return found


async def tick(app: Tui, clock: list[float], news: News, number: int) -> float:
    """Deliver events, let the app draw, and return the CPU seconds of both."""
    clock[0] += 0.25
    began = time.process_time()
    for event in news(number):
        app.session.deliver(Published(app.session.state.seq + 1, clock[0], event))
    app.tick()
    await asyncio.sleep(DRAWN_SECONDS)
    return time.process_time() - began


def chart_seconds(times: int) -> float:
    """Return the CPU seconds to draw a chart of as many rounds as the state keeps."""
    curve = tuple((float(number), 0.5 + number % 97 / 200) for number in range(600))
    series = [
        Series("a", curve, "global"),
        Series("b", curve, "me", "dashed"),
        Series("c", curve, "alone", "dotted"),
    ]
    band = Band(curve, tuple((x, y + 0.01) for x, y in curve))
    signs = glyphs(ascii_only=False)
    began = time.process_time()
    for _ in range(times):
        draw_plot(series, band, 60, 14, signs)
    return (time.process_time() - began) / times


def compiled_in(folder: Path) -> dict[str, str]:
    """Return an environment in which Python keeps compiled modules, in *folder*, as an installation does."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(folder / "compiled")}


def first_paint(environment: dict[str, str], path: Path | None = None) -> Painted:
    """Return the first paint of the recording *path*, without one that of a few panels."""
    program = [sys.executable, "-m", "tests.bench.screen_terminal"]
    given = [str(path)] if path is not None else []
    done = subprocess.run([*program, *given], check=True, cwd=ROOT, env=environment, capture_output=True)
    return msgspec.json.decode(done.stdout, type=Painted)


if __name__ == "__main__":
    run("screen", measure)
