"""Sets up logging; all other modules only have a logger.

A node's log file is for the diagnosis of a failure on an unattended device. It is always written, whatever
the terminal shows. Its size is bounded, its times are in UTC, and it includes the output of the worker.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
import time
import traceback
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

from p2pfl.line_style import LineStyle, Severity
from p2pfl.store.durable import disk_errors, make_folder

LOG_FILE = "node.log"

MAX_LOG_BYTES = 2 * 1024 * 1024
"""Maximum size of one file. A node without failures writes about 100 KB a day; a day of reconnections fills
one file."""

MAX_OLD_LOGS = 4
"""Number of older files: 10 MB in all, little enough for a Raspberry Pi's card."""

FILE_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"
OUTPUT_FORMAT = "%(levelname)s %(name)s: %(message)s"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"

_SEVERITIES = (
    (logging.CRITICAL, Severity.CRITICAL),
    (logging.ERROR, Severity.ERROR),
    (logging.WARNING, Severity.WARNING),
    (logging.INFO, Severity.INFO),
)
"""The severity of each level and of the levels above it."""

_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
"""The terminal's log level for each verbosity; DEBUG for all higher ones."""


class OutputFormatter(logging.Formatter):
    """Formats lines for standard error, by what it is connected to; the journal and files get dates."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(OUTPUT_FORMAT)
        self._lines = LineStyle(stream)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or the lines with a traceback, of *record*."""
        severity = next((one for level, one in _SEVERITIES if record.levelno >= level), Severity.DEBUG)
        return self._lines.line(super().format(record), severity, record.created)


class LogFile(RotatingFileHandler):
    """The log file. A write error is reported once, and the node continues."""

    is_refused = False
    """Whether a write error was reported."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Report the first write error; any other error is a bug and reported by the logging module."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.is_refused:
            self.is_refused = True
            sys.stderr.write(
                f"the log {self.baseFilename} cannot be written any more ({error.strerror}); this node "
                "continues without it\n"
            )

    def close(self) -> None:
        """Close the file; write errors have been reported."""
        with contextlib.suppress(OSError):
            super().close()


def set_up_logging(verbosity: int, log_dir: Path | None) -> None:
    """Send log lines to standard error and to the log file; a second call replaces what the first one set up.

    Args:
        verbosity: level of standard error: -1 ERROR, 0 WARNING, 1 INFO, 2 DEBUG. The level of the file is
            INFO, or DEBUG with 2.
        log_dir: the folder of `node.log`, created if needed; None: no file.

    Raises:
        DataDirectoryError: the log cannot be written there.
    """
    logger = logging.getLogger("p2pfl")
    close_logging()
    terminal = logging.StreamHandler()
    terminal.setFormatter(OutputFormatter(terminal.stream))
    logger.addHandler(terminal)
    if log_dir is not None:
        logger.addHandler(_open_file(log_dir))
    set_verbosity(verbosity)
    logger.propagate = False


def set_verbosity(verbosity: int) -> None:
    """Change the levels of standard error and of the log file to those of *verbosity*, at any time."""
    logger = logging.getLogger("p2pfl")
    level = _LEVELS.get(verbosity, logging.DEBUG)
    for handler in logger.handlers:
        is_file = isinstance(handler, LogFile)
        handler.setLevel(min(level, logging.INFO) if is_file else level)
    logger.setLevel(min((handler.level for handler in logger.handlers), default=level))


def close_logging() -> None:
    """Close the handlers of `set_up_logging` and restore the logger."""
    logger = logging.getLogger("p2pfl")
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def keep_traceback(error: BaseException) -> Path:
    """Write the traceback of *error* to the log and return the log's path.

    Without a log, the traceback goes to a new temporary file; if that fails too, to standard error.
    """
    logger = logging.getLogger("p2pfl")
    for handler in logger.handlers:
        if isinstance(handler, RotatingFileHandler):
            record = logger.makeRecord(
                logger.name,
                logging.CRITICAL,
                __file__,
                0,
                "ended by an unexpected error",
                (),
                (type(error), error, error.__traceback__),
            )
            handler.handle(record)
            return Path(handler.baseFilename)
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix="p2pfl-error-",
            suffix=".txt",
            encoding="utf-8",
            errors="backslashreplace",
            delete=False,
        ) as file:
            file.writelines(traceback.format_exception(error))
    except OSError:
        sys.stderr.writelines(traceback.format_exception(error))
        return Path("the lines above")
    return Path(file.name)


def _open_file(log_dir: Path) -> logging.Handler:
    path = log_dir / LOG_FILE
    with disk_errors("write the log", path):
        make_folder(log_dir)  # readable by this user only, as is the data directory that it may create
        handler = LogFile(
            path,
            maxBytes=MAX_LOG_BYTES,
            backupCount=MAX_OLD_LOGS,
            encoding="utf-8",
            errors="backslashreplace",
        )
    formatter = logging.Formatter(FILE_FORMAT, TIME_FORMAT)
    formatter.converter = time.gmtime  # so that logs from several time zones can be compared
    handler.setFormatter(formatter)
    return handler
