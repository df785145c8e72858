"""Passes measured values from a node to its trackers, without ever delaying or stopping the node.

Each tracker has a thread and a bounded queue. A tracker that fails, or is too slow for its queue, is a
warning once: the node goes on, and the tracker is tried again with the next values.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from p2pfl import events
from p2pfl.events import Published
from p2pfl.text import one_line
from p2pfl.tracking.measures import MEASURED, EventMeasures
from p2pfl.tracking.targets import TrackTarget, open_tracker
from p2pfl.tracking.tracker import TrackedRun, Tracker

logger = logging.getLogger(__name__)

MAX_WAITING = 4096
"""Events that wait for a tracker. A round has some ten, so a server may be away for some hundred rounds."""

CLOSE_SECONDS = 5.0
"""Time for a tracker to write the last values when the node ends: service managers wait little longer."""


class Tracking:
    """One tracker, its thread, and its queue of events."""

    def __init__(self, tracker: Tracker, label: str, node: str, max_waiting: int = MAX_WAITING) -> None:
        """Start the thread of *tracker*, which messages name *label*; *node* is this node's name."""
        self._tracker = tracker
        self._label = label
        self._node = node
        self._measures = EventMeasures(node)
        self._run: TrackedRun | None = None
        self._begun: TrackedRun | None = None
        """The run that the tracker has begun."""
        self._warned = False
        self._waiting: queue.Queue[Published | None] = queue.Queue(max_waiting)
        """None is the end."""
        self._thread = threading.Thread(target=self._work, name=f"tracker {label}", daemon=True)
        self._thread.start()

    def write(self, published: Published) -> None:
        """Pass an event to the tracker's thread; never wait."""
        if not isinstance(published.event, (*MEASURED, events.RunJoined)):
            return
        try:
            self._waiting.put_nowait(published)
        except queue.Full:
            self._warn("it is too slow, so values are lost")

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Wait until everything is written, at most *seconds*."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=seconds)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            logger.warning("the tracker %s has not written its last values within %g s", self._label, seconds)

    def _work(self) -> None:
        while (published := self._waiting.get()) is not None:
            try:
                self._take(published)
            except Exception as error:  # noqa: BLE001 - of a library, which may raise anything
                self._warn(f"{type(error).__name__}: {error}")
        try:
            self._tracker.close()
        except Exception as error:  # noqa: BLE001 - as above
            self._warn(f"{type(error).__name__}: {error}")

    def _take(self, published: Published) -> None:
        event = published.event
        if isinstance(event, events.RunJoined):
            self._run = TrackedRun(event.run, self._node, event.spec)
            return
        values = self._measures.take(published)
        if not values or self._run is None:
            return
        if self._begun is None or self._begun.id != self._run.id:
            self._tracker.begin(self._run)
            self._begun = self._run
        self._tracker.write(published.time, values)

    def _warn(self, reason: str) -> None:
        """Log the first failure."""
        if not self._warned:
            self._warned = True
            logger.warning(
                "the tracker %s does not work (%s); the node goes on, and its journal has all rounds",
                self._label,
                one_line(reason),
            )


@asynccontextmanager
async def tracked(
    targets: Iterable[TrackTarget], node: str, add: Callable[[Callable[[Published], None]], None]
) -> AsyncIterator[None]:
    """Write the measured values of *node* to *targets*; *add* connects a sink with the node's events.

    Raises:
        UserError: a file or folder cannot be written.
    """
    opened = [(open_tracker(target), str(target)) for target in targets]
    trackings = [Tracking(tracker, label, node) for tracker, label in opened]
    for one in trackings:
        add(one.write)
    try:
        yield
    finally:
        await asyncio.gather(*(asyncio.to_thread(one.close) for one in trackings))
