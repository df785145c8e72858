"""Where log lines go: the one place that sets up logging. Everything else only has a logger.

A node's log is for the day something went wrong on a device nobody was watching: always written, whatever the
terminal shows, bounded in size, in UTC, with what the worker printed among it.
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

from p2pfl.store.durable import disk_errors, make_folder

LOG_FILE = "node.log"

MAX_LOG_BYTES = 2 * 1024 * 1024
"""Of one file; a quiet node writes about 100 KB a day, a day of reconnecting fills one."""

MAX_OLD_LOGS = 4
"""Older files kept beside the current one: 10 MB in all, which a Raspberry Pi's card can spare."""

FILE_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"
TERMINAL_FORMAT = "%(levelname)s %(name)s: %(message)s"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"

_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
"""What the terminal shows for each verbosity; above these, everything."""


class LogFile(RotatingFileHandler):
    """The log file. A disk that does not take it any more is told of once, and ends nothing."""

    is_refused = False
    """Whether that was told."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say once that the disk refuses; anything else is a fault of ours and told as logging does."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.is_refused:
            self.is_refused = True
            sys.stderr.write(
                f"the log {self.baseFilename} cannot be written any more ({error.strerror}); this node goes "
                "on without it as far as it can\n"
            )

    def close(self) -> None:
        """Close the file; what a full disk did not take was told of before."""
        with contextlib.suppress(OSError):
            super().close()


def set_up_logging(verbosity: int, log_dir: Path | None) -> None:
    """Send log lines to standard error and to the log file; a second call replaces what the first one set up.

    Args:
        verbosity: of standard error: -1 errors, 0 warnings, 1 what happens, 2 everything. The file gets what
            happens whatever this is, and everything with 2.
        log_dir: where `node.log` is written, and made if need be; None keeps no file.

    Raises:
        DataDirectoryError: the log cannot be written there.
    """
    logger = logging.getLogger("p2pfl")
    close_logging()
    terminal = logging.StreamHandler()
    terminal.setLevel(_LEVELS.get(verbosity, logging.DEBUG))
    terminal.setFormatter(_formatter(TERMINAL_FORMAT))
    logger.addHandler(terminal)
    level = terminal.level
    if log_dir is not None:
        logger.addHandler(_open_file(log_dir, min(level, logging.INFO)))
        level = min(level, logging.INFO)
    logger.setLevel(level)
    logger.propagate = False


def close_logging() -> None:
    """Close what `set_up_logging` opened and leave the logger as it was before."""
    logger = logging.getLogger("p2pfl")
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def keep_traceback(error: BaseException) -> Path:
    """Write the traceback of *error* to the log, or to a new temporary file without one; return which.

    Where there can be no such file, it goes to standard error.
    """
    logger = logging.getLogger("p2pfl")
    for handler in logger.handlers:
        if isinstance(handler, RotatingFileHandler):
            record = logger.makeRecord(
                logger.name,
                logging.CRITICAL,
                __file__,
                0,
                "ended by an error nobody foresaw",
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


def _open_file(log_dir: Path, level: int) -> logging.Handler:
    path = log_dir / LOG_FILE
    with disk_errors("write the log", path):
        make_folder(log_dir)  # for this user only, and so is a data directory that begins with it
        handler = LogFile(
            path,
            maxBytes=MAX_LOG_BYTES,
            backupCount=MAX_OLD_LOGS,
            encoding="utf-8",
            errors="backslashreplace",
        )
    handler.setLevel(level)
    handler.setFormatter(_formatter(FILE_FORMAT))
    return handler


def _formatter(layout: str) -> logging.Formatter:
    """Return a formatter with times in UTC: logs of devices in several time zones are read together."""
    formatter = logging.Formatter(layout, TIME_FORMAT)
    formatter.converter = time.gmtime
    return formatter
