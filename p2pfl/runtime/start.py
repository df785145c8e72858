"""Starts a node: first its worker, then the import of everything else.

The worker imports torch, which takes longer than all that the node does before its first job. So it is the
first thing that a node starts, as soon as its options are known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from p2pfl.errors import WorkerError
from p2pfl.learning.process import Worker
from p2pfl.net.transport.sockets import raise_files_limit
from p2pfl.runtime.node_config import NodeConfig

if TYPE_CHECKING:
    from p2pfl.exit_codes import ExitCode
    from p2pfl.runtime.leaving import Leaving
    from p2pfl.runtime.observing.publish import Sink


async def start_node(
    config: NodeConfig,
    sinks: tuple[Sink, ...],
    started: float,
    on_start: Callable[[Leaving], None] = lambda _leave: None,
    reload_log_level: Callable[[], None] = lambda: None,
) -> ExitCode:
    """Start the worker of a node and run the node: see `p2pfl.runtime.node.run_node`.

    If the node owns the process, its limit of open files is raised first: the worker inherits it.

    Where a script trains, the worker only aggregates, and starts with its first job.

    Raises:
        UserError: as `run_node`.
    """
    if config.owns_process:
        raise_files_limit()
    worker = Worker(config.worker)
    try:
        if config.script is None:
            with contextlib.suppress(WorkerError):  # its first job tells why it cannot be started
                await worker.start()
        from p2pfl.runtime.node import run_node

        return await run_node(config, worker, sinks, started, on_start, reload_log_level)
    finally:
        await worker.close()
