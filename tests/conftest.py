"""Make every test process alike: one thread for each process, and signals handled as in a terminal.

`nohup` and a shell's `&` ignore some signals. A program started by a process that ignores a signal ignores it
as well, and a node under `nohup` is meant to.
"""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# Test processes and the nodes they start share few cores: thread pools would only compete.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# pytest-xdist gives its workers the size of a terminal: programs would believe that rather than ask the terminal they
# are started on.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# What an example takes says how busy the machine is.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


def pytest_xdist_auto_num_workers() -> int:
    """Return two test processes a core: about half of the time, tests wait for the processes they started."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the long matrix on real processes run in one process, one test after another: they wait for deadlines."""
    for item in items:
        on_nodes = item.get_closest_marker("long") and item.get_closest_marker("processes")
        if on_nodes and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("long"))


def _end_politely(number: int, frame: object) -> None:
    raise KeyboardInterrupt


for name in ("SIGHUP", "SIGINT"):
    number = getattr(signal, name, None)  # Windows has no SIGHUP
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, _end_politely)
