"""The protocol's driver: inputs from network, worker and clock go in, effects are carried out in order.

Inputs are taken at once, in the event loop; their effects go into one queue that one task empties. A run of
`Save` effects becomes one journal transaction in a thread, and nothing behind it in the queue is begun before
it is on disk: this is where "no answer before the disk has it" is kept. What no answer depends on is put off
a little, and shares a transaction with what cannot wait (`can_wait`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from p2pfl import events
from p2pfl.config import NetSettings
from p2pfl.core import inputs
from p2pfl.core.effects import (
    AnyEffect,
    Average,
    Collect,
    Create,
    Describe,
    Evaluate,
    Exit,
    Fetch,
    Fold,
    Save,
    SaveAccepted,
    SaveClosed,
    SaveCommit,
    SaveFounding,
    SavePromise,
    SaveReport,
    SaveResumed,
    SaveUpdate,
    Send,
    SendRecords,
    StopTraining,
    Tell,
    Train,
    can_wait,
)
from p2pfl.core.node import Node
from p2pfl.errors import DataDirectoryError
from p2pfl.messages import Facts, Message
from p2pfl.net.mesh import Mesh
from p2pfl.net.peers import Peer
from p2pfl.runtime.publish import Publisher
from p2pfl.runtime.work import Work
from p2pfl.store.blobs import BlobStore
from p2pfl.store.journal import Journal

logger = logging.getLogger(__name__)

DISK_EXIT = 7
"""Exit code when this device's disk refuses what the protocol must not forget."""

FAULT_EXIT = 70
"""Exit code after a fault in this program (EX_SOFTWARE of sysexits.h)."""

CLONED_EXIT = 8
"""Exit code of a node whose data directory is a copy or was restored from a backup."""

FRAME_MARGIN = 1024
"""Bytes of a frame left for the envelope around records."""

LATER_SECONDS = 0.02
"""How long a save that nobody waits for is put off, so that it shares its flush with one that cannot wait."""

Saving = (
    SaveFounding
    | SavePromise
    | SaveAccepted
    | SaveCommit
    | SaveUpdate
    | SaveReport
    | SaveResumed
    | SaveClosed
)


class Driver:
    """Runs one `Node`. It is the listener of the mesh and the host of the work."""

    def __init__(
        self, node: Node, journal: Journal, store: BlobStore, publisher: Publisher, settings: NetSettings
    ) -> None:
        self._node = node
        self._journal = journal
        self._store = store
        self._publisher = publisher
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[AnyEffect | Callable[[], None]] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._later: list[Save] = []
        """Saves put off (see `can_wait`), in their order."""
        self._collecting: asyncio.Task[None] | None = None
        self._guards_to_release: list[str] = []
        """Held until the collection under way is over."""
        self.ended: asyncio.Future[Exit] = self._loop.create_future()
        """Done when the node is to exit."""
        self.before_tick: Callable[[], None] = lambda: None
        """Called with every tick, about once a second: for what nobody announces."""
        self.facts: Callable[[], Facts | None] = lambda: None
        """Returns what is told to whoever is linked."""
        self.mesh: Mesh | None = None
        self.work: Work | None = None

    # --- inputs ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the protocol; `mesh` and `work` are set."""
        self._give_out(self._node.start(self._loop.time()))

    def feed(self, event: inputs.AnyInput) -> None:
        """Give the protocol an input."""
        self._give_out(self._node.input(event, self._loop.time()))

    def _tick(self) -> None:
        self._timer = None
        self.before_tick()
        self._save_later()
        self._give_out(self._node.tick(self._loop.time()))

    def _give_out(self, effects: list[AnyEffect]) -> None:
        for effect in effects:
            self._queue.put_nowait(effect)
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._node.deadline()
        self._timer = self._loop.call_at(deadline, self._tick) if deadline is not None else None

    # --- the mesh's listener --------------------------------------------------------------------------------

    def linked(self, peer: Peer) -> None:
        """Tell the protocol of a new link."""
        self.publish(events.PeerLinked(peer.member.node, peer.name, peer.address))
        self.feed(inputs.Linked(peer.member, peer.name))
        if (facts := self.facts()) is not None and self.mesh is not None:
            self.mesh.send(peer.member.node, facts)

    def unlinked(self, peer: Peer, reason: str) -> None:
        """Tell the protocol that a link ended."""
        self.publish(events.PeerLost(peer.member.node, peer.name, reason))
        self.feed(inputs.Unlinked(peer.member.node))

    def received(self, peer: Peer, message: Message) -> None:
        """Give the protocol a message."""
        self.feed(inputs.Received(peer.member, message))

    def refused(self, address: str, reason: str) -> None:
        """Tell people of a refused connection."""
        self.publish(events.PeerRefused(address, reason))

    def served(self, name: str, done: int, total: int) -> None:
        """Tell people how far a blob is sent."""
        self.publish(events.Progress(0, "push", done, total, name))

    def spread(self, facts: Facts) -> None:
        """Tell everybody linked of this node's *facts*."""
        assert self.mesh is not None
        for node in self.mesh.links():
            self.mesh.send(node, facts)

    def disowned(self, reason: str) -> None:
        """End the node: its data directory is a copy."""
        self.end(CLONED_EXIT, reason)

    # --- the work's host ------------------------------------------------------------------------------------

    def publish(self, event: events.AnyEvent) -> None:
        """Tell people."""
        self._publisher.publish(event)

    def name_of(self, node: str) -> str:
        """Return what people call *node*."""
        return self._node.name_of(node)

    def release_later(self, digest: str) -> None:
        """Take a guard of *digest* away once every effect given out so far is carried out."""
        self._queue.put_nowait(lambda: self._release(digest))

    def fail(self, error: DataDirectoryError) -> None:
        """End the node: its disk refuses."""
        self.end(DISK_EXIT, str(error))

    def break_down(self, error: BaseException) -> None:
        """End the node after a fault in its own code, which goes to the log."""
        logger.critical("a fault in this node's own code", exc_info=error)
        self.end(
            FAULT_EXIT,
            f"a fault in this program ended the node ({type(error).__name__}: {error}); see its log",
        )

    def end(self, code: int, reason: str) -> None:
        """End the node at once, leaving queued effects undone."""
        if not self.ended.done():
            self.ended.set_result(Exit(code, reason))

    # --- effects --------------------------------------------------------------------------------------------

    async def run(self) -> Exit:
        """Carry effects out until the node is to exit; return why."""
        carrier = asyncio.create_task(self._carry_out())
        try:
            carrier.add_done_callback(self._carried)
            return await self.ended
        finally:
            carrier.cancel()
            await asyncio.gather(carrier, return_exceptions=True)
            if self._collecting is not None:
                await asyncio.wait([self._collecting])
            if (saving := self._save_later()) is not None:
                await asyncio.wait([saving])
            if self._timer is not None:
                self._timer.cancel()
            self._disk.shutdown(wait=True)

    def _carried(self, carrier: asyncio.Task[None]) -> None:
        if not carrier.cancelled() and (error := carrier.exception()) is not None:
            self.break_down(error)

    async def _carry_out(self) -> None:
        try:
            while not self.ended.done():
                effect = await self._queue.get()
                following = await self._save(effect) if isinstance(effect, Saving) else effect
                if following is not None:
                    await self._do(following)
        except DataDirectoryError as error:
            self.fail(error)

    async def _save(self, first: Saving) -> AnyEffect | Callable[[], None] | None:
        """Save *first* and the saves right behind it; return the effect after them.

        They go to disk in one transaction, together with those put off before, unless all of them can wait.
        """
        batch, after = [first], None
        while not self._queue.empty():
            effect = self._queue.get_nowait()
            if not isinstance(effect, Saving):
                after = effect
                break
            batch.append(effect)
        if all(map(can_wait, batch)):
            self._later += batch
            self._loop.call_later(LATER_SECONDS, self._save_later)
        else:
            batch = [*self._later, *batch]
            self._later.clear()
            await self._loop.run_in_executor(self._disk, self._journal.save_all, batch)
        return after

    def _save_later(self) -> asyncio.Future[None] | None:
        """Begin to save what was put off; what the journal is asked for next comes after it."""
        if not self._later:
            return None
        batch, self._later = self._later, []
        saving = self._loop.run_in_executor(self._disk, self._journal.save_all, batch)
        saving.add_done_callback(self._done_aside)
        return saving

    def _done_aside(self, work: asyncio.Future[None]) -> None:
        """End the node if something that nobody waits for failed."""
        if not work.cancelled() and (error := work.exception()) is not None:
            if isinstance(error, DataDirectoryError):
                self.fail(error)
            else:
                self.break_down(error)

    async def _do(self, effect: AnyEffect | Callable[[], None]) -> None:
        assert self.mesh is not None
        assert self.work is not None
        match effect:
            case Send():
                self.mesh.send(effect.to, effect.message)
            case Tell():
                self.publish(effect.event)
            case SendRecords():
                await self._send_records(effect, self.mesh)
            case Collect():
                if self._collecting is not None:
                    await asyncio.wait([self._collecting])
                self._collecting = asyncio.create_task(self._collect(effect))
                self._collecting.add_done_callback(self._collected)
            case StopTraining():
                self.work.stop_training()
            case Exit():
                self.end(effect.code, effect.reason)
            case Fetch() | Describe() | Create() | Train() | Evaluate() | Fold() | Average():
                self.work.begin(effect)
            case _ if callable(effect):
                effect()
            case _:
                raise AssertionError(f"an effect nobody carries out: {effect!r}")

    async def _send_records(self, effect: SendRecords, mesh: Mesh) -> None:
        self._save_later()
        limit = self._settings.max_frame_bytes - FRAME_MARGIN
        records = await self._loop.run_in_executor(
            self._disk, self._journal.records, effect.run, effect.after, limit
        )
        mesh.send(effect.to, records)

    def _release(self, digest: str) -> None:
        """Take a guard away, unless a collection is under way that knows only what was needed before it."""
        assert self.work is not None
        if self._collecting is not None:
            self._guards_to_release.append(digest)
        else:
            self.work.guard.release(digest)

    def _collected(self, collecting: asyncio.Task[None]) -> None:
        self._collecting = None
        while self._guards_to_release:
            self._release(self._guards_to_release.pop())
        self._done_aside(collecting)

    async def _collect(self, effect: Collect) -> None:
        """Delete blobs nobody needs, while other effects are carried out.

        What one of them makes needed is guarded from its first step on, and stays so until this is over.
        """
        assert self.work is not None
        self._save_later()
        ledger = self._node.ledger
        best = None
        if ledger is not None:
            best = await self._loop.run_in_executor(self._disk, self._journal.best, ledger.run)
        keep, guard = effect.keep | ({best} if best else set()), self.work.guard
        files = await asyncio.to_thread(
            self._store.collect, lambda digest: digest in keep or guard.holds(digest)
        )
        await asyncio.to_thread(self._store.delete, files)
