"""The driver of the protocol: passes it inputs from network, worker and clock, and executes its effects.

Effects are executed in order, in the event loop, until a `Save` effect that must be on disk before the
effects after it, such as a vote. Successive `Save` effects become one journal transaction in a thread, and
the queue continues when the transaction is on disk. So no answer is sent before the state that it depends on
is on disk. A save that no answer depends on (`can_wait`) is delayed a little, to share the transaction and
the flush of one that cannot wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, assert_never

from p2pfl import events
from p2pfl.config import NetSettings
from p2pfl.core import inputs
from p2pfl.core.effects import (
    Aggregate,
    AnyEffect,
    Create,
    DeleteUnneededBlobs,
    Describe,
    Dismiss,
    Effect,
    Evaluate,
    Exit,
    Fetch,
    ReadSchema,
    Save,
    Send,
    SendRecords,
    Sever,
    StopTraining,
    Tell,
    Train,
    can_wait,
    needs_own_fsync,
)
from p2pfl.core.node import Node
from p2pfl.errors import DataDirectoryError, OutOfFilesError
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import Message, Records
from p2pfl.net.links.peers import LinkedPeer
from p2pfl.net.mesh import Mesh
from p2pfl.runtime.jobs.collector import Collector
from p2pfl.runtime.jobs.work import Work
from p2pfl.runtime.notice_limits import PeerNoticeLimiter
from p2pfl.runtime.observing.publish import Publisher
from p2pfl.store.blobs import BlobStore
from p2pfl.store.journal import Journal

logger = logging.getLogger(__name__)

FRAME_MARGIN = 1024
"""Bytes of a frame reserved for the encoding around records."""

LATER_SECONDS = 0.25
"""Maximum delay of a save that no answer depends on (`can_wait`), so that it shares a flush with one that
cannot wait. In a run of short rounds, all saves of a round are flushed with its vote. A node that is killed
within the delay loses them, and may repeat what it sent. The save of an update that took longer to train is
not delayed."""


class Driver:
    """Runs one `Node`. It is the listener of the mesh and the host of the jobs."""

    def __init__(
        self, node: Node, journal: Journal, store: BlobStore, publisher: Publisher, settings: NetSettings
    ) -> None:
        self._node = node
        self._journal = journal
        self._store = store
        self._publisher = publisher
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._queue: deque[AnyEffect | Callable[[], None]] = deque()
        self._is_busy = False
        """Whether the queue waits for an effect in execution."""
        self._timer: asyncio.Handle | None = None
        self._timer_at: float | None = None
        """Time of `_timer`. uvloop's handle of a call that is due at once does not have it."""
        self._notice_limiter = PeerNoticeLimiter()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._later: list[Save] = []
        """Delayed saves (see `can_wait`), in order."""
        self._later_timer: asyncio.TimerHandle | None = None
        self._flushed: asyncio.Future[None] | None = None
        """Done when the delayed saves are passed to the journal's thread; None while nothing waits for it."""
        self._collector: Collector | None = None
        self.ended: asyncio.Future[Exit] = self._loop.create_future()
        """Done when the node is to exit."""
        self._before_tick: Callable[[], None] = lambda: None
        self.mesh: Mesh | None = None
        self.work: Work | None = None

    # --- inputs ---------------------------------------------------------------------------------------------

    def start(self, mesh: Mesh, work: Work, before_tick: Callable[[], None] = lambda: None) -> None:
        """Start the protocol. *mesh* and *work*, which were created with this driver, execute its effects.

        *before_tick* is called before each tick, about once a second, to poll for changes.
        """
        self.mesh, self.work, self._before_tick = mesh, work, before_tick
        self._give_out(self._node.start(self._loop.time()))

    def feed(self, event: inputs.AnyInput) -> None:
        """Pass an input to the protocol."""
        self._give_out(self._node.input(event, self._loop.time()))

    def _tick(self) -> None:
        self._timer = None
        self._before_tick()
        self._give_out(self._node.tick(self._loop.time()))

    def _give_out(self, effects: list[AnyEffect]) -> None:
        self._queue.extend(effects)
        self._carry_on()
        deadline = self._node.deadline()
        if self._timer is not None:
            if deadline == self._timer_at:
                return
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._tick) if deadline is not None else None

    @property
    def is_in_run(self) -> bool:
        """Whether the node is in a run."""
        return self._node.ledger is not None

    # --- the mesh's listener --------------------------------------------------------------------------------

    def linked(self, peer: LinkedPeer) -> None:
        """Publish a new link and pass it to the protocol."""
        self.publish(events.PeerLinked(peer.member.node, peer.name, peer.address))
        self.feed(inputs.Linked(peer.member, peer.name))

    def unlinked(self, peer: LinkedPeer, reason: str) -> None:
        """Publish the end of a link and pass it to the protocol."""
        self.publish(events.PeerLost(peer.member.node, peer.name, reason))
        self.feed(inputs.Unlinked(peer.member.node))

    def received(self, peer: LinkedPeer, message: Message) -> None:
        """Pass a message to the protocol; limit the effects that one peer causes."""
        now = self._loop.time()
        effects = self._node.input(inputs.Received(peer.member, message), now)
        self._give_out(self._notice_limiter.filter(peer.member.node, peer.name, effects, now))

    def refused(self, address: str, reason: str) -> None:
        """Publish that a connection was refused."""
        self.publish(events.PeerRefused(address, reason))

    def unreachable(self, address: str, reason: str, *, is_refused: bool, delay: float) -> None:
        """Publish that a listed, known or found address cannot be reached."""
        self.publish(events.AddressFailed(address, reason, is_refused, delay))

    def reachable(self, address: str) -> None:
        """Publish that such an address can be reached again."""
        self.publish(events.AddressFailed(address, "", is_refused=False))

    def served(self, name: str, done: int, total: int) -> None:
        """Publish the progress of sending a blob."""
        self.publish(events.ProgressMade(0, "push", done, total, name))

    def journal_cloned(self, reason: str) -> None:
        """End the node because its journal was copied, after marking the journal for all later starts."""
        if self.ended.done():
            return
        try:
            self._journal.refuse(reason)
        except DataDirectoryError as error:
            self.fail(error)
        else:
            self.end(ExitCode.CLONED, reason)

    # --- the work's host ------------------------------------------------------------------------------------

    def publish(self, event: events.AnyEvent) -> None:
        """Publish *event* to users and observers."""
        self._publisher.publish(event)

    def name_of(self, node: str) -> str:
        """Return the display name of *node*."""
        return self._node.name_of(node)

    def unpin_later(self, digest: str) -> None:
        """Remove a pin of *digest* after all queued effects."""
        self._queue.append(lambda: self._unpin(digest))
        self._carry_on()

    def fail(self, error: DataDirectoryError) -> None:
        """End the node because of a disk error."""
        if self.ended.done():
            logger.error("while ending: %s", error)
        self.end(ExitCode.UNFIT if isinstance(error, OutOfFilesError) else ExitCode.DISK, str(error))

    def break_down(self, error: BaseException) -> None:
        """End the node after an unexpected error, and log its traceback.

        An `OSError` is not reported as a bug of this program.
        """
        if isinstance(error, OSError):
            logger.critical("the operating system refused a call that this node needs", exc_info=error)
            what = f" ({error.filename})" if error.filename is not None else ""
            self.end(
                ExitCode.SYSTEM,
                f"the operating system refused a call that this node needs{what}: {error.strerror or error}; "
                "see its log",
            )
            return
        logger.critical("a fault in this program", exc_info=error)
        self.end(
            ExitCode.BUG,
            f"a fault in this program ended the node ({type(error).__name__}: {error}); see its log",
        )

    def end(self, code: ExitCode, reason: str) -> None:
        """End the node at once; queued effects are not executed."""
        if not self.ended.done():
            self.ended.set_result(Exit(code, reason))

    # --- effects --------------------------------------------------------------------------------------------

    async def run(self) -> Exit:
        """Wait until the node is to exit and all delayed saves are on disk; return code and reason."""
        try:
            return await self.ended
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if (saving := self._save_later()) is not None:
                saving.add_done_callback(self._done_aside)
                await asyncio.wait([saving])
            if self._collector is not None:
                await self._collector.close()
            self._disk.shutdown(wait=True)

    def _carry_on(self) -> None:
        """Execute queued effects until one must be waited for."""
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._queue and not self.ended.done():
                under_way = self._do(self._queue.popleft())
                if under_way is not None:
                    under_way.add_done_callback(self._done)
                    return
        except DataDirectoryError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001 - any other error is a bug of this program
            self.break_down(error)
        self._is_busy = False

    def _done(self, under_way: asyncio.Future[Any]) -> None:
        """Continue with the queue after an effect that it waited for."""
        self._is_busy = False
        self._done_aside(under_way)
        self._carry_on()

    def _done_aside(self, work: asyncio.Future[Any]) -> None:
        """End the node if *work* failed."""
        if not work.cancelled() and (error := work.exception()) is not None:
            if isinstance(error, DataDirectoryError):
                self.fail(error)
            else:
                self.break_down(error)

    def _do(self, effect: AnyEffect | Callable[[], None]) -> asyncio.Future[Any] | None:
        """Execute *effect*; return the future that later effects must wait for, or None."""
        assert self.mesh is not None
        assert self.work is not None
        if not isinstance(effect, Effect):
            effect()
            return None
        if isinstance(effect, Save):
            return self._save(effect)
        match effect:
            case Send():
                self.mesh.send(effect.to, effect.message)
            case Sever():
                self.mesh.drop(effect.node, effect.reason)
            case Dismiss():
                self.mesh.dismiss(effect.node, effect.reason)
            case Tell():
                self.publish(effect.event)
            case SendRecords():
                return self._send_records(effect, self.mesh)
            case DeleteUnneededBlobs():
                self._collect(effect)
            case StopTraining():
                self.work.stop_training()
            case Exit():
                self.end(effect.code, effect.reason)
            case Fetch() | ReadSchema() | Describe() | Create() | Train() | Evaluate() | Aggregate():
                self.work.begin(effect)
            case _:
                assert_never(effect)
        return None

    # --- the journal ----------------------------------------------------------------------------------------

    def _save(self, first: Save) -> asyncio.Future[None] | None:
        """Save *first* and the saves directly after it; return the future to wait for, None if they can wait.

        They are saved in one transaction, together with the delayed saves.
        """
        batch: list[Save] = [first]
        while self._queue and isinstance(self._queue[0], Save):
            batch.append(self._queue.popleft())  # type: ignore[arg-type]  # checked above
        self._later += batch
        if not all(map(can_wait, batch)):
            return self._save_later()
        if any(needs_own_fsync(save, LATER_SECONDS) for save in batch):
            self._save_aside()
        elif self._later_timer is None:
            self._later_timer = self._loop.call_later(LATER_SECONDS, self._save_aside)
        return None

    def _save_later(self) -> asyncio.Future[None] | None:
        """Start to save the delayed saves; later calls of the journal come after them."""
        if self._later_timer is not None:
            self._later_timer.cancel()
            self._later_timer = None
        if not self._later:
            return None
        batch, self._later = self._later, []
        if self._flushed is not None:
            self._flushed.set_result(None)
            self._flushed = None
        return self._loop.run_in_executor(self._disk, self._journal.save_all, batch)

    def _save_aside(self) -> None:
        """Save the delayed saves; the queue does not wait."""
        if (saving := self._save_later()) is not None:
            saving.add_done_callback(self._done_aside)

    def _send_records(self, effect: SendRecords, mesh: Mesh) -> asyncio.Future[Records]:
        self._save_aside()
        limit = self._settings.max_frame_bytes - FRAME_MARGIN
        reading = self._loop.run_in_executor(
            self._disk, self._journal.records, effect.run, effect.after, limit
        )

        def send(read: asyncio.Future[Records]) -> None:
            if not read.cancelled() and read.exception() is None:
                mesh.send(effect.to, read.result())

        reading.add_done_callback(send)
        return reading

    # --- collection of unneeded blobs -----------------------------------------------------------------------

    def _collect(self, effect: DeleteUnneededBlobs) -> None:
        if self._collector is None:
            self._collector = Collector(self._store, self._best, self._collected)
        self._collector.collect(effect.keep)

    def _collected(self, work: asyncio.Future[Any]) -> None:
        """End the node if a collection failed; without free file descriptors, the next one retries."""
        error = work.exception() if not work.cancelled() else None
        if isinstance(error, OutOfFilesError):
            logger.warning("unneeded files were not deleted: %s", error)
        else:
            self._done_aside(work)

    async def _best(self) -> str | None:
        """Wait until all saves delayed so far are on disk; return the best model of the run."""
        while self._later:
            # An additional flush would delay the next vote.
            self._flushed = self._flushed or self._loop.create_future()
            await self._flushed
        ledger = self._node.ledger
        if ledger is None:
            return None
        return await self._loop.run_in_executor(self._disk, self._journal.best, ledger.run)

    def _unpin(self, digest: str) -> None:
        """Remove a pin; during a collection, the collector removes it when it is safe."""
        if self._collector is not None:
            self._collector.unpin(digest)
        else:
            self._store.unpin(digest)
