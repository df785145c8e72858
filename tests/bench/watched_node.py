"""The program `tests.bench.synthetic_node` that samples its metrics only while an observer is connected.

A node with an events file samples its metrics all the time, and every node of a bench has such a file. This
node writes the file and otherwise behaves as one without it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from p2pfl.exit_codes import ExitCode
from p2pfl.runtime import start
from p2pfl.runtime.leaving import Leaving
from p2pfl.runtime.node_config import NodeConfig
from p2pfl.runtime.observing.publish import Sink
from tests.bench import synthetic_node

PROGRAM = ("-m", "tests.bench.watched_node")
"""Argument of `tests.support.processes.Fleet.start`."""


def main() -> None:
    start_node = start.start_node

    async def unrecorded(
        config: NodeConfig,
        sinks: tuple[Sink, ...],
        started: float,
        on_start: Callable[[Leaving], None] = lambda _leave: None,
        reload_log_level: Callable[[], None] = lambda: None,
    ) -> ExitCode:
        unwatched = msgspec.structs.replace(config, recorded=False)
        return await start_node(unwatched, sinks, started, on_start, reload_log_level)

    start.start_node = unrecorded
    synthetic_node.main()


if __name__ == "__main__":
    main()
