"""How a node is told to end: by a key, a signal, a command, or the end of the program that started it.

Ctrl-C and `p2pfl leave` come from a person who can wait, and who can press Ctrl-C once more. SIGTERM comes
from a service manager that kills after a while, and SIGHUP from a terminal that was closed: nobody can answer
there, so the polite leave has a time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.exit_codes import ExitCode
from p2pfl.runtime.driver import Driver

logger = logging.getLogger(__name__)

LEAVE_WITHIN = 5.0
"""Seconds of a polite leave after SIGTERM or SIGHUP. `docker stop` kills after 10 s, systemd after 90.
Closing links and worker comes on top: mostly a tenth of a second, at most 8 where the worker hangs."""


class Leaving:
    """Leaves politely when asked to, and at once when asked once more."""

    def __init__(self, driver: Driver, within: float = LEAVE_WITHIN) -> None:
        """Leave by *driver*; after a signal that nobody can answer, *within* so many seconds."""
        self._driver = driver
        self._within = within
        self._is_asked = False

    def interrupt(self) -> None:
        """Take a Ctrl-C: the first one is polite."""
        if not self.ask():
            self._driver.end(ExitCode.INTERRUPTED, "stopped at once")

    def terminate(self) -> None:
        """Take a SIGTERM: polite for a while; at once where leaving was asked for before."""
        if not self._ask_within("SIGTERM"):
            self._driver.end(ExitCode.INTERRUPTED, "stopped at once")

    def hang_up(self) -> None:
        """Take a SIGHUP, of which a closed terminal sends several: polite for a while."""
        self._ask_within("the terminal was closed (SIGHUP)")

    def ask(self) -> bool:
        """Leave politely; return False where that was asked for before."""
        return self._ask("leaving politely; once more (Ctrl-C) stops at once")

    def _ask_within(self, why: str) -> bool:
        """Leave politely for a while; return False where leaving was asked for before."""
        if not self._ask(f"{why}: leaving politely, within {self._within:g} s"):
            return False
        asyncio.get_running_loop().call_later(
            self._within,
            self._driver.end,
            ExitCode.LEFT,
            f"{why}: left after {self._within:g} s without a commit that drops this device; the others count "
            "it as absent",
        )
        return True

    def _ask(self, text: str) -> bool:
        if self._is_asked:
            return False
        self._is_asked = True
        logger.info(text)  # also where the terminal that shows events is gone
        self._driver.publish(events.Notice("info", text))
        self._driver.feed(inputs.Leave())
        return True


@contextlib.contextmanager
def signals(leave: Leaving) -> Iterator[None]:
    """Give *leave* each SIGINT, SIGTERM and SIGHUP; a SIGHUP that is ignored (`nohup`) stays so."""
    loop = asyncio.get_running_loop()
    installed = []
    handlers = {"SIGINT": leave.interrupt, "SIGTERM": leave.terminate, "SIGHUP": leave.hang_up}
    for name, handler in handlers.items():
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is None or (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
            continue
        try:
            loop.add_signal_handler(number, handler)
        except NotImplementedError:  # Windows: asyncio has no signal handlers there; Ctrl-C raises
            break
        installed.append(number)
    try:
        yield
    finally:
        for number in installed:
            loop.remove_signal_handler(number)


def end_with_input(driver: Driver) -> None:
    """End the node of *driver* at once when standard input ends: whoever started it holds the other end.

    A pipe's end is closed however its holder dies, on every system.
    """
    loop = asyncio.get_running_loop()
    reason = "the program that started this node has ended"
    watch_input(lambda: loop.call_soon_threadsafe(driver.end, ExitCode.LEFT, reason))


def watch_input(on_end: Callable[[], object], descriptor: int = 0) -> None:
    """Call *on_end* in another thread when *descriptor* has nothing more to read."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(descriptor, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop is closed: the node has ended meanwhile
            on_end()

    threading.Thread(target=wait, name="standard-input", daemon=True).start()
