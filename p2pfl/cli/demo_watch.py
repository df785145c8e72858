"""Watches the nodes of a demo from their start to their end: reads what they write, and tells it.

It decides when watching is over: when all have ended, or when those that are left can never finish.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from p2pfl.cli.demo_nodes import POLL_SECONDS, NodeProcess, describe_exit
from p2pfl.cli.demo_screen import Screen, draw_story
from p2pfl.cli.demo_story import Story

START_SECONDS = 60.0
"""From a node's start until it listens: a second on an idle machine."""


class Watch:
    """The demo's nodes and their story."""

    def __init__(self, nodes: Sequence[NodeProcess], screen: Screen) -> None:
        self._nodes = nodes
        self._screen = screen
        self.story = Story(tuple(node.name for node in nodes))
        self.dead: dict[str, int] = {}
        """Nodes that ended before their run was complete, and their exit codes."""

    async def run(self, options: Sequence[str]) -> str:
        """Start the nodes with *options*, watch them to the end; return what made that impossible, or ""."""
        common = [
            "--listen=127.0.0.1:0",
            "--device=cpu",
            "--threads=1",
            f"--min-nodes={len(self._nodes)}",
            *options,
        ]
        first = self._nodes[0]
        first.start(common)
        # One address is enough, and it is known only now: the others learn each other's from this node.
        await self._until(lambda: first.name in self.story.addresses or bool(self.dead), START_SECONDS)
        address = self.story.addresses.get(first.name)
        if address is None:
            return self._failure() or f"{first.name} does not listen after {START_SECONDS:.0f} s"
        for node in self._nodes[1:]:
            node.start([*common, f"--peers={address}"])
        self._screen.say(("·", f"{len(self._nodes)} node processes on this machine, the first at {address}"))
        await self._until(lambda: self._is_decided() or self._is_lost())
        return self._failure()

    async def _until(self, condition: Callable[[], bool], seconds: float | None = None) -> None:
        """Look at the nodes until *condition* holds, and once more; with *seconds*, at most so long."""
        loop = asyncio.get_running_loop()
        deadline = None if seconds is None else loop.time() + seconds
        while True:
            is_over = condition() or (deadline is not None and loop.time() > deadline)
            self._look()
            if is_over:
                return
            await asyncio.sleep(POLL_SECONDS)

    def _look(self) -> None:
        """Tell what was written since the last look, in the order it happened."""
        ended = [node for node in self._nodes if node.exit_code is not None]
        found = [(one.time, node.name, one.event) for node in self._nodes for one in node.follower.read()]
        for time, name, event in sorted(found, key=lambda entry: entry[0]):
            for line in self.story.take(name, event):
                self._screen.say(line, time)
        for node in ended:
            self._note_end(node)
        self._screen.show(draw_story(self.story))

    def _note_end(self, node: NodeProcess) -> None:
        code = node.exit_code
        if code is None or code == 0 or node.name in self.dead:
            return
        self.dead[node.name] = code
        self.story.views[node.name].doing = "dead" if code < 0 else f"ended ({code})"
        self._screen.say(("✗", f"{node.name} {describe_exit(code)}"))

    def _is_decided(self) -> bool:
        """Whether nothing more is to be seen: all have ended, or the only ones awaited are dead."""
        running = {node.name for node in self._nodes if node.is_running}
        # A node whose run is complete serves on for a while in case a member comes back; these do not.
        return not running or (bool(self.dead) and running <= self.story.complete)

    def _is_lost(self) -> bool:
        """Whether the nodes that are left can never finish: too few to vote, or no run to be founded."""
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
