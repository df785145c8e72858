"""The program `p2pfl node` with fault injection: it kills itself with SIGKILL at exact points of a round.

A signal from another process would hit these points only by chance. This module patches functions of p2pfl,
which has no code for it. All nodes of a test have the same faults, since the aggregator is not known in
advance: the first node that reaches a point dies, and no other (a file in the working folder marks the point
as used). The first argument is `--rig=POINT:R,POINT:R,...`, where R is a round:

* `trained`: after its training, before its update is in the journal or offered to another node.
* `submit-sent`, `prepare-sent`, `accept-sent`, `commit-sent`: after the first such message of the round was sent,
  to one member, and before the second.
* `commit-due`: after a quorum has accepted, before the first COMMIT is sent.
* `counted`: as aggregator, when the first update is counted.
* `accepted-heard`: as proposer, when the first ACCEPTED of another member arrives.
* `before-save-X`, `after-save-X`, where X is `promise`, `accepted`, `commit` or `update`: before or after the
  journal's transaction, which ends with a flush.
* `before-flush-file`, `after-flush-file`, `before-flush-folder`, `after-flush-folder`: before or after a model file
  of the round, or its folder, is flushed.
* `light`: no fault; the worker is `tests.support.light_worker`, which does not import torch.
* `asks`: no fault; the node asks for votes even if it is first in rank.
* `tap:FILE`: no fault; the body of every frame that the node sends is appended to FILE, each after its length.
* `keep`: no fault; no blob is deleted, so that all that were sent can be read afterwards.
* `modules:FILE`: no fault; at the end of the run, the names of all loaded modules are written to FILE.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Container, Iterable
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
from p2pfl.net.transport import stream
from p2pfl.runtime import start
from p2pfl.runtime.driver import Driver
from p2pfl.store import blobs, partial
from p2pfl.store.journal import Journal
from p2pfl.wire import blobs as wire_blobs
from p2pfl.wire import frames
from p2pfl.wire.links import RenewalFrame
from tests.support.known import known

Strike = Callable[[], None]
"""Kills this process; returns if another process has already died at the same point."""


def victim_file(point: str) -> Path:
    """Return the path, in the working folder, of the file with the id of the process that died at *point*."""
    return Path(f"victim-{point}")


def claim(point: str) -> bool:
    """Create the file of *point*; return whether this process created it and so is the one to die."""
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
    """Call *act* after each event for which *is_the_one* holds; it is in the events file by then."""
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
        link = known(mesh._neighbours.link(node))
        while link._queued_bytes or link.stream.transport.get_write_buffer_size():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        die()

    def rigged(self: Mesh, node: str, message: messages.Message | RenewalFrame) -> bool:
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

    def rigged(self: Mesh, node: str, message: messages.Message | RenewalFrame) -> bool:
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

    Journal.save_all = rigged  # type: ignore[method-assign,assignment]


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
    for module in (blobs, partial):  # the modules for files of the worker and for pulled files
        setattr(module, name, rigged)


def write_modules(file: str) -> None:
    def act() -> None:
        Path(file).write_text("\n".join(sorted(sys.modules)), encoding="utf-8")

    at_event(lambda _, event: isinstance(event, events.RunEnded), act)


def tap(file: str) -> None:
    """Append what the node sends: bodies of frames of links, of transfers and of observers."""
    encode_frame = frames.encode_frame

    def rigged(body: bytes, max_bytes: int) -> bytes:
        with Path(file).open("ab") as log:
            log.write(len(body).to_bytes(4, "big") + body)
        return encode_frame(body, max_bytes)

    for module in (stream, wire_blobs):
        module.encode_frame = rigged  # type: ignore[attr-defined]


def keep_blobs() -> None:
    def collect(self: blobs.BlobStore, keep: Container[str]) -> list[Path]:
        return []

    blobs.BlobStore.collect = collect  # type: ignore[method-assign]


def use_light_worker() -> None:
    program = (sys.executable, "-P", "-m", "tests.support.light_worker")

    def light(settings: WorkerSettings, **options: Any) -> Worker:
        return Worker(msgspec.structs.replace(settings, program=program), **options)

    start.Worker = light  # type: ignore[assignment,attr-defined]


def ask_for_votes() -> None:
    """Let this node ask for votes even if it is first in rank and does not need to."""
    asking = Policy(lowest=lambda _order, _node: False)
    core_node.Policy = lambda: asking  # type: ignore[assignment,attr-defined,misc]


def round_of(thing: Any) -> int:
    """Return the round of a message or of a save effect."""
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
        case ["tap"]:
            tap(argument)
        case ["keep"]:
            keep_blobs()
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
