"""Ends a node on Ctrl-C, a signal, a command, or at the wish of the program that started or contains it.

SIGHUP has two meanings. Where the process has a controlling terminal, the terminal was closed, and the node
leaves. A service has none: there SIGHUP asks for its configuration to be read again, as in other services.

A node leaves politely: it waits until a commit removes it from the run. After Ctrl-C or `p2pfl leave` it
waits without limit, since the user can press Ctrl-C again. After SIGTERM, or when its terminal is closed, it
waits for a limited time: a service manager kills the process soon after SIGTERM.
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
from p2pfl.runtime.node_config import LEAVE_WITHIN

logger = logging.getLogger(__name__)

CLOSE_WITHIN = 10.0
"""Time limit of closing everything after a polite leave that SIGTERM began. A disk or a library that never
answers must not hold the process until the service manager kills it. Closing takes at most 8 s otherwise."""


class Leaving:
    """Leaves politely at the first request, and stops at once at the second."""

    def __init__(self, driver: Driver, within: float = LEAVE_WITHIN) -> None:
        """End the node of *driver*; after SIGTERM or SIGHUP, *within* this number of seconds."""
        self._driver = driver
        self._within = within
        self._is_asked = False

    def interrupt(self) -> None:
        """Handle Ctrl-C: the first leaves politely, the second stops at once."""
        if not self.ask():
            self._driver.end(ExitCode.INTERRUPTED, "stopped at once")

    def terminate(self) -> None:
        """Handle SIGTERM: leave politely within the time limit, or stop at once if already leaving."""
        is_first = self.ask_within("SIGTERM")
        if not is_first:
            self._driver.end(ExitCode.INTERRUPTED, "stopped at once")
        end_process_within(CLOSE_WITHIN + (self._within if is_first else 0.0))

    def hang_up(self) -> None:
        """Handle SIGHUP: leave politely within the time limit. A closed terminal sends several."""
        self.ask_within("the terminal was closed (SIGHUP)")

    def ask(self) -> bool:
        """Leave politely; return False if the node is leaving already."""
        return self._ask("leaving politely; once more (Ctrl-C) stops at once")

    def ask_within(self, why: str) -> bool:
        """Leave politely within the time limit; return False if the node is leaving already."""
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
        logger.info(text)  # the terminal that shows events may be closed
        self._driver.publish(events.Notice("info", text))
        self._driver.feed(inputs.Leave())
        return True


@contextlib.contextmanager
def signals(
    leave: Leaving, reload: Callable[[], None], has_terminal: Callable[[], bool] | None = None
) -> Iterator[None]:
    """Pass SIGINT and SIGTERM to *leave*, and SIGHUP to *leave*, or to *reload* in a service.

    An ignored SIGHUP (`nohup`) stays ignored. *has_terminal* says whether this is no service.
    """
    loop = asyncio.get_running_loop()
    installed = []
    # Asked now: a process has no terminal any more when the one it had is closed.
    is_service = not (has_terminal or has_controlling_terminal)()
    hang_up = reload if is_service else leave.hang_up
    handlers = {"SIGINT": leave.interrupt, "SIGTERM": leave.terminate, "SIGHUP": hang_up}
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


def end_process_within(seconds: float) -> None:
    """End this process after *seconds* if it has not ended by then, whatever it waits for.

    What the node has promised is on disk, so nothing is lost that a kill would not lose too.
    """

    def end() -> None:
        logger.critical("closing took longer than %g s; the process ends without it", seconds)
        os._exit(ExitCode.LEFT)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def has_controlling_terminal() -> bool:
    """Whether this process has a controlling terminal, which sends it SIGHUP when it is closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except (OSError, AttributeError):  # Windows has neither the path nor the flag
        return False
    return True


def end_with_input(driver: Driver, *, wait: bool = False) -> None:
    """End the node of *driver* at once when standard input ends; with *wait* its first line starts the run.

    The program that started the node has the other end of the pipe, which the system closes when it dies.
    """
    loop = asyncio.get_running_loop()
    reason = "the program that started this node has ended"
    starts = [inputs.Go()] if wait else []

    def start() -> None:
        if starts:
            loop.call_soon_threadsafe(driver.feed, starts.pop())

    watch_input(lambda: loop.call_soon_threadsafe(driver.end, ExitCode.LEFT, reason), on_line=start)


def watch_input(
    on_end: Callable[[], object], descriptor: int = 0, on_line: Callable[[], object] = lambda: None
) -> None:
    """Call *on_end*, in another thread, at the end of the input on *descriptor*, and *on_line* for lines."""

    def wait() -> None:
        with contextlib.suppress(OSError, RuntimeError):
            while data := os.read(descriptor, 4096):
                if b"\n" in data:
                    on_line()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the node has ended
            on_end()

    threading.Thread(target=wait, name="standard-input", daemon=True).start()
