"""The observer of `bench_observers`, in a process of its own: `python -m tests.bench.watcher DATA_DIR`.

It follows the node that runs on that data directory and folds what it is told into the state that a screen
shows. It prints a line when it was told what lies behind, and ends when it is killed or the node ends.
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
    """Follow the node on *data_dir*."""
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
                    print("it is told what happens", flush=True)


if __name__ == "__main__":
    asyncio.run(watch(Path(sys.argv[1])))
