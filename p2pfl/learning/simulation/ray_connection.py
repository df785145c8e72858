"""The connection of this program to Ray, which is started on this machine if it is not there."""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from p2pfl.errors import TaskError, UserError
from p2pfl.learning.own.interface import OPTIONAL, Task
from p2pfl.text import one_line

MAX_CAUSE = 300
"""Maximum number of characters quoted from an error of Ray."""


CONNECT_SECONDS = 10.0
"""Time for a cluster to answer."""


class RayConnection:
    """Ray, until `close`."""

    def __init__(self, address: str, workers: int) -> None:
        """Connect to the cluster at *address*; if that is empty, start Ray with *workers* processors, 0: all.

        If the program itself is connected to Ray, that connection is used, and stays.

        Raises:
            UserError: Ray is not installed, cannot be started, or there is no cluster.
        """
        self.ray = imported()
        self._is_ours = not self.ray.is_initialized()
        if self._is_ours:
            self._connect(address, workers)
        elif address:
            raise UserError(
                f"This program is connected to Ray, and ray_address is {one_line(address)!r}: leave it "
                "out, or call ray.shutdown() first."
            )

    def close(self) -> None:
        """Disconnect, and end a Ray that was started here; another one goes on."""
        if self._is_ours:
            self.ray.shutdown()

    def put_task(self, task: Task) -> Any:
        """Return a reference of *task*, which has the code of modules that are not installed with it.

        Raises:
            TaskError: it cannot be sent.
        """
        cloudpickle: Any = importlib.import_module("ray.cloudpickle")
        hooks = (getattr(task, name) for name in ("model", "data", *OPTIONAL))
        modules = {sys.modules.get(getattr(hook, "__module__", None) or "") for hook in hooks}
        users = [module for module in modules if module is not None and not _is_installed(module)]
        for module in users:
            cloudpickle.register_pickle_by_value(module)
        try:
            return self.ray.put(task)
        except Exception as error:
            raise TaskError(
                f"The task cannot be sent to the processes of Ray ({cause_of(error)}); write it to a "
                "task file, and give its path."
            ) from error
        finally:
            for module in users:
                cloudpickle.unregister_pickle_by_value(module)

    def _connect(self, address: str, workers: int) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address:
            options |= {"address": address}
        else:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            options |= {"address": "local", "include_dashboard": False, "num_cpus": workers or None}
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            _reach(address)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.ray.init(**options)
        except BaseException as error:  # Ray raises errors of many kinds
            self.ray.shutdown()  # also what has been started so far
            if not isinstance(error, Exception):
                raise
            cause = cause_of(error)
            if address:
                raise UserError(
                    f"There is no Ray cluster at {one_line(address)} ({cause}); give the address that "
                    "`ray start` printed, or leave ray_address out to start Ray on this machine."
                ) from error
            raise UserError(
                f"Ray cannot be started on this machine ({cause}); correct that, or use engine='local'."
            ) from error


def _is_installed(module: ModuleType) -> bool:
    file = module.__dict__.get("__file__")
    parts = Path(file).parts if isinstance(file, str) else ("site-packages",)  # built in, or __main__
    return bool({"site-packages", "dist-packages"} & set(parts))


def _reach(address: str) -> None:
    """Connect to *address* and disconnect: Ray itself waits for minutes where nothing is.

    Raises:
        OSError: nothing answers.
        ValueError: the address has no port.
    """
    if address and address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def imported() -> Any:
    """Return the package ray.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UserError(
            "The engine 'ray' needs the package ray, which is not installed here: pip install "
            "'p2pfl-lan[ray]'."
        ) from error


def cause_of(error: BaseException) -> str:
    """Return an error of Ray in one line: the last one of its text, which is often a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1] if lines else type(error).__name__)[:MAX_CAUSE].rstrip(".")
