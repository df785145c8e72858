"""Run the terminal UI on recordings, with a stopped clock, and return its screens as text."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from p2pfl.events import Published
from p2pfl.observe.connection import Connected
from p2pfl.wire.observing import CommandName, CommandResult, ObserverWelcome
from tests.support.recordings import node_id_of
from tui.app import Tui
from tui.source import Live

GOLDEN = Path(__file__).parents[1] / "tui" / "golden"

EVERYTHING: tuple[CommandName, ...] = ("start", "pause", "resume", "stop", "stop-now", "save", "leave")


class Node(Live):
    """A fake node: the test delivers its events, and it records the commands."""

    def __init__(self) -> None:
        self.text = "192.0.2.20:9000"
        self.orders: list[CommandName] = []
        self.refusal = ""
        self.retried = 0

    async def run(self, deliver, tell, anew):
        await asyncio.Event().wait()

    def retry_now(self) -> None:
        self.retried += 1

    async def order(self, what: CommandName) -> CommandResult:
        self.orders.append(what)
        return CommandResult(0, self.refusal, "" if self.refusal else f"{what} is done")


def greeting(role="local", may: Sequence[CommandName] = EVERYTHING, name="lab-desktop") -> ObserverWelcome:
    return ObserverWelcome(
        1, "0.1.0", name, node_id_of(name), "lab", "somebody", role, tuple(may), "a" * 32, False
    )


@asynccontextmanager
async def shown(
    recording: Sequence[Published],
    size=(80, 24),
    *,
    may=EVERYTHING,
    role="local",
    local_only: dict[str, float] | None = None,
    **options,
):
    """The app with *recording* told and drawn, its clock at the last event; yields app, pilot and node.

    *local_only* is what a demo has reported of local-only models.
    """
    node = options.pop("source", None) or Node()
    last = max((published.time for published in recording), default=0.0)
    app = Tui(node, ticks=False, clock=options.pop("clock", lambda: last + 1.0), **options)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        for published in recording:
            app.session.deliver(published)
        for name, accuracy in (local_only or {}).items():
            app.session.state.add_local_only(name, accuracy)
        if isinstance(node, Node):
            app.set_connection(Connected(greeting(role, may)))
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
