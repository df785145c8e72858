"""The process that simulates: `python -m p2pfl.learning.simulation.main`.

`p2pfl.learning.simulation.process` starts it. Each line of its standard input orders a run. The process ends
with its standard input, also in the middle of a run. What the user's code prints goes to standard error.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from queue import SimpleQueue
from typing import BinaryIO, NoReturn

from p2pfl.errors import P2pflError, UserError
from p2pfl.learning.simulation.process import (
    RoundDone,
    RunAnswer,
    RunBegan,
    RunDone,
    RunFailed,
    answer_line,
    order_of,
)

MAX_REASON = 2000
"""Maximum number of characters of a failure's reason."""

END_SECONDS = 4.0
"""Time to end Ray, less than `p2pfl.learning.simulation.process` waits."""


def main() -> NoReturn:
    """Simulate the runs on standard input."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    source, sink = _take_pipes()
    orders: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(source, orders), name="reader", daemon=True).start()
    while True:
        serve(orders.get(), sink)


def serve(order: bytes, sink: BinaryIO) -> None:
    """Simulate the run of *order*, or only check it, and write the answers to *sink*, each at once."""

    def answer(value: RunAnswer) -> None:
        sink.write(answer_line(value))
        sink.flush()

    from p2pfl.learning.simulation.federation import open_federation
    from p2pfl.learning.simulation.rounds import Simulation, check_simulation

    try:
        run, is_check = order_of(order)
        federation = open_federation(run)
        if is_check:
            check_simulation(federation)
            answer(RunDone())
            return
        simulation = Simulation(federation)
        try:
            measures = simulation.agreement.measures
            answer(RunBegan(measures.primary, measures.direction))
            for row in simulation.rounds():
                answer(RoundDone(row))
        finally:
            simulation.close()
    except P2pflError as error:
        answer(RunFailed(str(error)[:MAX_REASON], isinstance(error, UserError)))
    except Exception as error:  # of torch or of the user's code; the next run may work
        logging.getLogger(__name__).exception("the simulation failed")
        answer(RunFailed(f"The simulation failed with {type(error).__name__}: {error}"[:MAX_REASON], False))
    else:
        answer(RunDone())


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes from and to the other process, on descriptors that user code does not print to."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink


def _read(source: BinaryIO, orders: SimpleQueue[bytes]) -> NoReturn:
    """Read orders until the other process closes the pipe; then end this one, also during a run."""
    for line in source:
        orders.put(line)
    if "ray" in sys.modules and sys.platform != "win32":
        # Some processes of Ray outlive a program that does not end them itself, in its main thread.
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        signal.pthread_kill(main_thread, signal.SIGTERM)
        time.sleep(END_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main()
