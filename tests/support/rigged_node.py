"""`p2pfl node` with faults built in: it kills itself with SIGKILL at exact points of a round.

What a signal from outside can only hit by luck is hit every time. The rig wraps the product's functions from
outside; the product knows nothing of it. All nodes of a test are rigged alike, since nobody knows who will be
aggregator: the first that gets to a point dies, and no other (a file in the working folder says that it
happened). The first argument is `--rig=POINT:R,POINT:R,...`, R a round:

* `trained`: it has its update, which is in no journal and was offered to nobody.
* `submit-sent`, `prepare-sent`, `accept-sent`, `commit-sent`: the first such message of the round has left, to
  one member, and before the second.
* `commit-due`: a quorum has accepted; before the first COMMIT leaves.
* `counted`: as aggregator, when the first update is counted.
* `accepted-heard`: as proposer, when the first ACCEPTED of another member comes in.
* `before-save-X`, `after-save-X`, X one of `promise`, `accepted`, `commit`, `update`: around the journal's
  transaction, whose end is the flush.
* `before-flush-file`, `after-flush-file`, `before-flush-folder`, `after-flush-folder`: the same of a model
  file made durable in the round.
* `light`: no fault: its worker is `tests.support.light_worker`, which loads no torch.
* `asks`: no fault: where it is first in rank it asks for votes all the same.
* `modules:FILE`: no fault: at the end of the run the names of all loaded modules are written to FILE.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from p2pfl import cli, events, messages
from p2pfl.core import effects
from p2pfl.core import node as core_node
from p2pfl.core.options import Policy
from p2pfl.learning.process import Worker, WorkerSettings
from p2pfl.net.links.peers import LinkedPeer
from p2pfl.net.mesh import Mesh
from p2pfl.runtime import node as runtime
from p2pfl.runtime.driver import Driver
from p2pfl.store import blobs, partial
from p2pfl.store.journal import Journal

Strike = Callable[[], None]
"""Kills this process, unless another one died at the point before: then it returns."""


def victim_file(point: str) -> Path:
    """Return where, in the working folder, the process id of who died at *point* is."""
    return Path(f"victim-{point}")


def claim(point: str) -> bool:
    """Whether this process is the one that dies at *point*."""
    try:
        with victim_file(point).open("x", encoding="utf-8") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def strike_at(point: str) -> Strike:
    def strike() -> None:
        if claim(point):
            die()

    return strike


def at_event(is_the_one: Callable[[Driver, events.AnyEvent], bool], act: Strike) -> None:
    """Do *act* once an event for which *is_the_one* holds was published, and so is in the events file."""
    publish = Driver.publish

    def rigged(self: Driver, event: events.AnyEvent) -> None:
        publish(self, event)
        if is_the_one(self, event):
            act()

    Driver.publish = rigged  # type: ignore[method-assign]


def me(driver: Driver) -> str:
    return driver._node._ctx.me.node


# --- points -------------------------------------------------------------------------------------------------


def when_trained(strike: Strike, round_: int) -> None:
    at_event(lambda _, event: isinstance(event, events.TrainingFinished) and event.round == round_, strike)


def when_counted(strike: Strike, round_: int) -> None:
    aggregators: dict[int, str] = {}

    def is_the_one(driver: Driver, event: events.AnyEvent) -> bool:
        if isinstance(event, events.Elected):
            aggregators[event.round] = event.node
        return (
            isinstance(event, events.UpdateCounted)
            and event.round == round_
            and aggregators.get(round_) == me(driver)
        )

    at_event(is_the_one, strike)


def when_sent(point: str, kind: type[messages.Message], round_: int) -> None:
    send = Mesh.send
    dying: list[asyncio.Task[None]] = []

    async def die_when_out(mesh: Mesh, node: str) -> None:
        link = mesh._neighbours.link(node)
        while link._queued_bytes or link.stream.transport.get_write_buffer_size():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        die()

    def rigged(self: Mesh, node: str, message: messages.Message) -> bool:
        if not isinstance(message, kind) or round_of(message) != round_:
            return send(self, node, message)
        if dying:
            return True
        if not claim(point):
            return send(self, node, message)
        assert send(self, node, message)
        dying.append(asyncio.get_running_loop().create_task(die_when_out(self, node)))
        return True

    Mesh.send = rigged  # type: ignore[method-assign]


def when_commit_is_due(strike: Strike, round_: int) -> None:
    send = Mesh.send

    def rigged(self: Mesh, node: str, message: messages.Message) -> bool:
        if isinstance(message, messages.Commit) and round_of(message) == round_:
            strike()
        return send(self, node, message)

    Mesh.send = rigged  # type: ignore[method-assign]


def when_accepted_heard(strike: Strike, round_: int) -> None:
    received = Driver.received

    def rigged(self: Driver, peer: LinkedPeer, message: messages.Message) -> None:
        if isinstance(message, messages.Accepted) and (message.round, message.ballot.node) == (
            round_,
            me(self),
        ):
            strike()
        received(self, peer, message)

    Driver.received = rigged  # type: ignore[method-assign]


def around_save(moment: str, kind: type[effects.Save], strike: Strike, round_: int) -> None:
    save_all = Journal.save_all

    def rigged(self: Journal, saves: Iterable[effects.Save]) -> None:
        batch = tuple(saves)
        is_it = any(isinstance(save, kind) and round_of(save) == round_ for save in batch)
        if is_it and moment == "before":
            strike()
        save_all(self, batch)
        if is_it and moment == "after":
            strike()

    Journal.save_all = rigged  # type: ignore[method-assign]


def around_flush(moment: str, name: str, strike: Strike, round_: int) -> None:
    flush = getattr(blobs, name)
    is_open = False

    def note(_: Driver, event: events.AnyEvent) -> bool:
        nonlocal is_open
        if isinstance(event, events.Committed | events.RunJoined):
            is_open = event.round == round_ - 1
        return False

    def rigged(what: Any) -> None:
        if is_open and moment == "before":
            strike()
        flush(what)
        if is_open and moment == "after":
            strike()

    at_event(note, die)
    for module in (blobs, partial):  # what is pulled, and what the worker wrote
        setattr(module, name, rigged)


def write_modules(file: str) -> None:
    def act() -> None:
        Path(file).write_text("\n".join(sorted(sys.modules)), encoding="utf-8")

    at_event(lambda _, event: isinstance(event, events.RunEnded), act)


def use_light_worker() -> None:
    program = (sys.executable, "-P", "-m", "tests.support.light_worker")

    def light(settings: WorkerSettings, **options: Any) -> Worker:
        return Worker(msgspec.structs.replace(settings, program=program), **options)

    runtime.Worker = light  # type: ignore[assignment,misc]


def ask_for_votes() -> None:
    """Let this node ask for votes also where it is first in rank and need not."""
    asking = Policy(lowest=lambda _order, _node: False)
    core_node.Policy = lambda: asking  # type: ignore[assignment,misc]


def round_of(thing: Any) -> int:
    """Return the round of a message or of something to be saved."""
    if isinstance(thing, effects.SaveCommit):
        thing = thing.commit
    return int((thing.record if isinstance(thing, messages.Commit) else thing).round)


SENT: dict[str, type[messages.Message]] = {
    "submit": messages.Submit,
    "prepare": messages.Prepare,
    "accept": messages.Accept,
    "commit": messages.Commit,
}

SAVED: dict[str, type[effects.Save]] = {
    "promise": effects.SavePromise,
    "accepted": effects.SaveAccepted,
    "commit": effects.SaveCommit,
    "update": effects.SaveUpdate,
}

FLUSHED = {"file": "flush", "folder": "flush_folder"}


def rig(point: str, argument: str) -> None:
    strike = strike_at(point)
    match point.split("-"):
        case ["light"]:
            use_light_worker()
        case ["asks"]:
            ask_for_votes()
        case ["modules"]:
            write_modules(argument)
        case ["trained"]:
            when_trained(strike, int(argument))
        case ["counted"]:
            when_counted(strike, int(argument))
        case ["accepted", "heard"]:
            when_accepted_heard(strike, int(argument))
        case ["commit", "due"]:
            when_commit_is_due(strike, int(argument))
        case [kind, "sent"]:
            when_sent(point, SENT[kind], int(argument))
        case [moment, "save", kind]:
            around_save(moment, SAVED[kind], strike, int(argument))
        case [moment, "flush", kind]:
            around_flush(moment, FLUSHED[kind], strike, int(argument))
        case _:
            raise AssertionError(f"no such rig: {point}")


def main() -> None:
    for one in sys.argv.pop(1).removeprefix("--rig=").split(","):
        point, _, argument = one.partition(":")
        rig(point, argument)
    sys.argv.insert(1, "node")
    cli.main()


if __name__ == "__main__":
    main()
