"""Run the terminal UI on recordings, with a stopped clock, and return its screens as text."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from p2pfl.events import Published
from p2pfl.wire.observing import Answer, Greeting, What
from tests.support.recordings import node_id_of
from tui.app import Tui
from tui.source import Connected, Live

GOLDEN = Path(__file__).parents[1] / "tui" / "golden"

EVERYTHING: tuple[What, ...] = ("start", "pause", "resume", "stop", "stop-now", "save", "leave")


class Node(Live):
    """A fake node: the test delivers its events, and it records the commands."""

    def __init__(self) -> None:
        self.text = "192.0.2.20:9000"
        self.orders: list[What] = []
        self.refusal = ""
        self.retried = 0

    async def run(self, deliver, tell, anew):
        await asyncio.Event().wait()

    def retry_now(self) -> None:
        self.retried += 1

    async def order(self, what: What) -> Answer:
        self.orders.append(what)
        return Answer(0, self.refusal, "" if self.refusal else f"{what} is done")


def greeting(role="local", may: Sequence[What] = EVERYTHING, name="lab-desktop") -> Greeting:
    return Greeting(1, "0.1.0", name, node_id_of(name), "lab", "somebody", role, tuple(may), "a" * 32, False)


@asynccontextmanager
async def shown(recording: Sequence[Published], size=(80, 24), *, may=EVERYTHING, role="local", **options):
    """The app with *recording* told and drawn, its clock at the last event; yields app, pilot and node."""
    node = options.pop("source", None) or Node()
    last = max((published.time for published in recording), default=0.0)
    app = Tui(node, ticks=False, clock=options.pop("clock", lambda: last + 1.0), **options)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        for published in recording:
            app._deliver(published)
        if isinstance(node, Node):
            app._tell(Connected(greeting(role, may)))
        await settle(app, pilot)
        await settle(app, pilot)  # panels that appeared with the first tick now have a size
        yield app, pilot, node


async def settle(app: Tui, pilot) -> None:
    """Draw, and let the app process posted messages."""
    await pilot.pause()
    app.tick()
    await pilot.pause()


def text_of(app: Tui) -> str:
    """The text of the screen, without colours."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips) + "\n"
