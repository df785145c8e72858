"""`p2pfl node` with a fault built in: it kills itself with SIGKILL at an exact point of a round.

What a signal from outside can only hit by luck is hit every time. The rig wraps the product's methods from
outside; the product knows nothing of it. All nodes of a test are rigged alike, since nobody knows who will be
aggregator: the first that gets to the point dies, and no other (a file in the working folder says that it
happened). The first argument is the rig:

* `--rig=counted:R`: as aggregator of round R, when the first update is counted.
* `--rig=accept-sent:R`: when the first ACCEPT of round R has left, to one member, and before the second.
* `--rig=accepted-heard:R`: as proposer of round R, when the first ACCEPTED of another member comes in.
* `--rig=modules:FILE`: no fault: at the end of the run the names of all loaded modules are written to FILE.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import typer

from p2pfl import events, messages
from p2pfl.cli.node import node
from p2pfl.net.mesh import Mesh
from p2pfl.net.peers import Peer
from p2pfl.runtime.driver import Driver

VICTIM_FILE = "victim"
"""In the working folder: the node id of the process that died."""


def claim(node: str) -> bool:
    """Whether this process, of node *node*, is the one that dies."""
    try:
        with Path(VICTIM_FILE).open("x", encoding="utf-8") as file:
            file.write(node)
    except FileExistsError:
        return False
    return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_event(is_the_one: Any, act: Any = die) -> None:
    """Do *act* once an event for which *is_the_one* holds was published, and so is in the events file."""
    publish = Driver.publish

    def rigged(self: Driver, event: events.AnyEvent) -> None:
        publish(self, event)
        if is_the_one(self, event):
            act()

    Driver.publish = rigged  # type: ignore[method-assign]


def when_counted(round_: int) -> None:
    aggregators: dict[int, str] = {}

    def is_the_one(driver: Driver, event: events.AnyEvent) -> bool:
        if isinstance(event, events.Elected):
            aggregators[event.round] = event.node
        me = driver._node._ctx.me.node
        return (
            isinstance(event, events.UpdateCounted)
            and (event.round, aggregators.get(event.round)) == (round_, me)
            and claim(me)
        )

    at_event(is_the_one)


def when_accept_sent(round_: int) -> None:
    send = Mesh.send
    dying: list[asyncio.Task[None]] = []

    async def die_when_out(mesh: Mesh, node: str) -> None:
        link = mesh._neighbours[node].link
        while link._queued_bytes or link.stream.transport.get_write_buffer_size():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        die()

    def rigged(self: Mesh, node: str, message: messages.Message) -> bool:
        if not isinstance(message, messages.Accept) or message.round != round_:
            return send(self, node, message)
        if dying:
            return True
        if not claim(self._node):
            return send(self, node, message)
        assert send(self, node, message)
        dying.append(asyncio.get_running_loop().create_task(die_when_out(self, node)))
        return True

    Mesh.send = rigged  # type: ignore[method-assign]


def when_accepted_heard(round_: int) -> None:
    received = Driver.received

    def rigged(self: Driver, peer: Peer, message: messages.Message) -> None:
        if (
            isinstance(message, messages.Accepted)
            and (message.round, message.ballot.node) == (round_, self._node._ctx.me.node)
            and claim(message.ballot.node)
        ):
            die()
        received(self, peer, message)

    Driver.received = rigged  # type: ignore[method-assign]


def write_modules(file: str) -> None:
    def act() -> None:
        Path(file).write_text("\n".join(sorted(sys.modules)), encoding="utf-8")

    at_event(lambda _, event: isinstance(event, events.RunEnded), act)


def main() -> None:
    rig, _, argument = sys.argv.pop(1).removeprefix("--rig=").partition(":")
    match rig:
        case "counted":
            when_counted(int(argument))
        case "accept-sent":
            when_accept_sent(int(argument))
        case "accepted-heard":
            when_accepted_heard(int(argument))
        case "modules":
            write_modules(argument)
        case _:
            raise AssertionError(f"no such rig: {rig}")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(node)
    app()


if __name__ == "__main__":
    main()
