"""Observe the node on a data directory, for `bench_observers`: `python -m tests.bench.watcher DATA_DIR`.

It folds all rounds and events of the node into the state of a screen. It prints a line when it has received
the history, and ends when it is killed or the node ends.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from p2pfl.observe.client import Observer
from p2pfl.observe.state import State
from p2pfl.observe.target import find_target
from p2pfl.wire.observing import EventBatch, HistoryBatch, HistoryEnd


async def watch(data_dir: Path) -> None:
    """Observe the node on *data_dir* until the node ends."""
    state = State()
    async with await Observer.connect(find_target(data_dir=data_dir)) as observer:
        async for frame in observer.frames():
            match frame:
                case HistoryBatch():
                    for row in frame.rounds:
                        state.apply(row)
                case EventBatch():
                    for published in frame.events:
                        state.apply(published)
                case HistoryEnd():
                    print("the history is complete", flush=True)


if __name__ == "__main__":
    asyncio.run(watch(Path(sys.argv[1])))
