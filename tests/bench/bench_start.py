"""How soon a command answers and a node is ready, and what an idle node takes of memory.

Prints medians to compare with the budgets of the design; judges nothing, for a busy machine is no defect. Run it
from the top folder: `python -m tests.bench.bench_start`.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil

from p2pfl import events
from tests.support.processes import fleet

TIMES = 7


def median(measure: Callable[[], float]) -> float:
    """Return the median of `TIMES` measurements, after one that warms caches up."""
    measure()
    return statistics.median(measure() for _ in range(TIMES))


def seconds_of(*command: str) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, *command], capture_output=True, check=True)
    return time.monotonic() - began


async def start_a_node(folder: Path) -> tuple[float, float, float]:
    """Return seconds from process start to ready, and resident MB of the node process and of its worker."""
    async with fleet(folder) as nodes:
        node = await nodes.start("ada", "--min-nodes=2")
        await node.until(events.WorkerReady)
        process = psutil.Process(node.pid)
        [worker] = process.children()
        megabytes = [one.memory_info().rss / 1e6 for one in (process, worker)]
        return node.all(events.Started)[0].seconds, megabytes[0], megabytes[1]


def main() -> None:
    bare = median(lambda: seconds_of("-c", "pass"))
    print(f"python -c pass         {bare:.2f} s")
    for words in (["--help"], ["node", "--help"], ["demo", "--help"]):
        seconds = median(partial(seconds_of, "-m", "p2pfl", *words))
        print(f"{'p2pfl ' + ' '.join(words):22} {seconds:.2f} s")
    measured = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            measured.append(asyncio.run(start_a_node(Path(folder))))
    ready, node, worker = (statistics.median(column) for column in zip(*measured, strict=True))
    print(f"ready for peers after  {ready:.2f} s")
    print(f"idle node process      {node:.0f} MB")
    print(f"its worker             {worker:.0f} MB")


if __name__ == "__main__":
    main()
