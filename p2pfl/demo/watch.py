"""Starts the nodes of a demo, reads their event files and prints the story, until the demo is over.

It is over when all nodes have ended, or when the nodes that are left can never finish.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Literal

from p2pfl import events
from p2pfl.demo.control import Command, Control, DemoLength
from p2pfl.demo.director import Director, Plan
from p2pfl.demo.processes import POLL_SECONDS, NodeProcess, TuiProcess, describe_exit
from p2pfl.demo.screen import Screen, draw_story
from p2pfl.demo.story import Story
from p2pfl.errors import P2pflError
from p2pfl.observe.client import command
from p2pfl.observe.target import find_target
from p2pfl.text import one_line

START_SECONDS = 60.0
"""Time limit for a node to start listening; an idle machine needs a second."""


STOP_SECONDS = 3.0
"""Interval of asking the federation to stop: an answer takes milliseconds."""


class DemoWatcher:
    """Starts and watches the nodes of one demo."""

    def __init__(
        self,
        nodes: Sequence[NodeProcess],
        screen: Screen,
        control: Control,
        show: TuiProcess | None = None,
        on_complete: Callable[[], None] = lambda: None,
        director: Director | None = None,
    ) -> None:
        """Start nothing yet. With *show* the terminal UI is opened, and the nodes stay as long as it is open.

        *on_complete* is called once, when all running nodes have the final model. The *director* says what
        happens, and may kill and start nodes.
        """
        self._nodes = nodes
        self._screen = screen
        self._control = control
        self._show = show
        self._on_complete: Callable[[], None] | None = on_complete
        self._director = (
            director if director is not None else Director(Plan(tuple(node.name for node in nodes)))
        )
        self._rounds: int | None = None
        """The length of the demo that was reported last."""
        self._next_stop = 0.0
        """When the run may be asked to stop again, by the event loop's clock."""
        self._common: list[str] = []
        """Options that every node gets."""
        self.story = Story(tuple(node.name for node in nodes))
        self.dead: dict[str, int] = {}
        """Exit codes of nodes that ended before their run was complete, unless they were started again."""

    async def run(self, options: Sequence[str]) -> str:
        """Start the nodes with *options* and watch them to the end; return why that failed, or ""."""
        self._common = [
            "--listen=127.0.0.1:0",
            "--device=cpu",
            "--threads=1",
            f"--min-nodes={len(self._nodes)}",
            *(["--stay"] if self._show is not None else []),
            *options,
        ]
        with self._screen.live():
            failure = await self._start()
        if failure:
            return failure
        if self._show is not None:
            await self._show_until_closed(self._show)
        with self._screen.live():
            await self._until(lambda: self._is_decided() or self._is_lost())
        return self._failure()

    async def _start(self) -> str:
        """Start all nodes; return why that failed, or ""."""
        first = self._nodes[0]
        first.start(self._common)
        # The port is known only now. One address is enough: this node tells the others each other's.
        await self._until(lambda: first.name in self.story.addresses or bool(self.dead), START_SECONDS)
        address = self.story.addresses.get(first.name)
        if address is None:
            return self._failure() or f"{first.name} does not listen after {START_SECONDS:.0f} s"
        for node in self._nodes[1:]:
            node.start([*self._common, f"--peers={address}"])
        self._screen.say(("·", f"{len(self._nodes)} node processes on this machine, the first at {address}"))
        self._explain(self._director.opening())
        return ""

    async def _show_until_closed(self, show: TuiProcess) -> None:
        """Run the terminal UI until the user closes it."""
        with self._screen.held():
            show.start(self._nodes[0].data_dir)
            try:
                await self._until(lambda: not show.is_running)
            finally:
                await show.close()
        if show.exit_code:
            text = f"the terminal UI ended with exit code {show.exit_code}; the demo goes on without it"
            self._screen.say(("!", text))

    async def _until(self, condition: Callable[[], bool], seconds: float | None = None) -> None:
        """Poll the nodes until *condition* holds, at most for *seconds*, and once more after that."""
        loop = asyncio.get_running_loop()
        deadline = None if seconds is None else loop.time() + seconds
        while True:
            is_over = condition() or (deadline is not None and loop.time() > deadline)
            self._look()
            is_closed = self._show is not None and self._show.exit_code is not None
            if self._director.has_shown_enough or (is_closed and self._director.is_open_ended):
                await self._stop()
            if is_over:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _stop(self) -> None:
        """Ask the federation to end its run after the open round, again from time to time until it does."""
        clock = asyncio.get_running_loop().time
        node = next((node for node in self._nodes if node.is_running), None)
        if node is None or clock() < self._next_stop:
            return
        self._next_stop = clock() + STOP_SECONDS
        with contextlib.suppress(P2pflError, TimeoutError):  # it is asked again
            await asyncio.wait_for(command(find_target(data_dir=node.data_dir), "stop"), STOP_SECONDS)

    def _look(self) -> None:
        """Print what the nodes wrote since the last call, in the order of the events' times."""
        ended = [node for node in self._nodes if node.exit_code is not None]
        found = [(node.name, one) for node in self._nodes for one in node.follower.read()]
        for name, one in sorted(found, key=lambda entry: entry[1].time):
            for line in self.story.take(name, one):
                self._screen.say(line, one.time)
            self._explain(self._director.take(one))
        for node in ended:
            self._note_end(node)
        due = self._director.commands(self.story.round + 1 if self.story.rounds else 0, time.monotonic())
        for given in (*self._control.commands(), *due):
            self._obey(given)
        if self._director.rounds is not None and self._director.rounds != self._rounds:
            self._rounds = self._director.rounds
            self._control.report(DemoLength(self._rounds))
        if self._on_complete is not None and self._is_complete():
            self._on_complete()
            self._on_complete = None
        self._screen.show(draw_story(self.story))

    def _obey(self, given: Command) -> None:
        """Kill or start a node: a command from the terminal UI."""
        node = next((node for node in self._nodes if node.name == given.node), None)
        if node is None or (given.do == "kill") != node.is_running:
            state = (
                "no node of this demo" if node is None else "running" if node.is_running else "not running"
            )
            text = f"{one_line(given.node, 64)} is {state}: there is nothing to {given.do}"
            self._tell("warning", text)
        elif given.do == "kill":
            node.kill()
        else:
            living = [one.name for one in self._nodes if one.is_running]
            peers = [self.story.addresses[name] for name in living if name in self.story.addresses]
            node.start([*self._common, f"--peers={','.join(peers)}"])
            self.dead.pop(node.name, None)
            self.story.forget(node.name)
            self._tell("info", f"{node.name} is started again")
            self._explain(self._director.note_started(node.name))

    def _tell(self, level: Literal["info", "warning"], text: str) -> None:
        self._control.report(events.Notice(level, text))
        self._screen.say(("!" if level == "warning" else "·", text))

    def _explain(self, texts: Sequence[str]) -> None:
        for text in texts:
            self._tell("info", text)

    def _note_end(self, node: NodeProcess) -> None:
        code = node.exit_code
        if code is None or code == 0 or node.name in self.dead:
            return
        self.dead[node.name] = code
        self.story.views[node.name].doing = "dead" if code < 0 else f"ended ({code})"
        self.story.addresses.pop(node.name, None)
        text = f"{node.name} {describe_exit(code)}"
        self._control.report(events.Notice("warning", text))
        self._screen.say(("✗", text))
        if code < 0:
            self._explain(self._director.note_killed(node.name))

    def _is_complete(self) -> bool:
        """Whether all running nodes have the final model, and at least one node has it."""
        running = {node.name for node in self._nodes if node.is_running}
        return bool(self.story.complete) and running <= self.story.complete

    def _is_decided(self) -> bool:
        """Whether the demo is over: all nodes have ended, or all that are missing are dead."""
        if not any(node.is_running for node in self._nodes):
            return True
        # A complete node serves for a while in case a member comes back; dead nodes do not come back. Nodes
        # that were started for the terminal UI (`--stay`) serve until they are ended.
        return (bool(self.dead) or self._show is not None) and self._is_complete()

    def _is_lost(self) -> bool:
        """Whether the nodes that are left can never finish: too few for a quorum, or to found a run."""
        if not self.dead or self.story.complete:
            return False
        living = {node.name for node in self._nodes} - self.dead.keys()
        return not self.story.members or len(living & set(self.story.members)) < self.story.needed()

    def _failure(self) -> str:
        if not self._is_lost():
            return ""
        left = len(self._nodes) - len(self.dead)
        if not self.story.members:
            return f"{', '.join(self.dead)} ended before the run began"
        return f"{left} of {len(self.story.members)} members are left, {self.story.needed()} needed"
