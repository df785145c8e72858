from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from tests.bench.peers.world import MemoryExceededError, PeerError, World, world

PLENTY = 10**12

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
child.wait()
"""


def a_world(folder: Path, limit_bytes: int = PLENTY) -> AbstractContextManager[World]:
    return world(folder / "world", Path(sys.executable), limit_bytes)


def test_a_world_leaves_no_process_behind(tmp_path: Path) -> None:
    with a_world(tmp_path) as made:
        parent = made.start("parent", [sys.executable, "-c", PARENT])
        made.until(lambda: made.printed("parent"), "a child")
        child = int(made.printed("parent"))
        assert psutil.pid_exists(child)
    assert not psutil.pid_exists(parent.pid)
    assert not psutil.pid_exists(child)


def test_a_program_that_fails_ends_the_waiting_with_its_last_words(tmp_path: Path) -> None:
    with a_world(tmp_path) as made:
        made.start(
            "broken",
            [sys.executable, "-c", "print('loading', flush=True); raise SystemExit('no such model')"],
        )
        with pytest.raises(PeerError, match=r"broken ended with exit code 1: no such model\n"):
            made.until(lambda: False, "anything")


def test_silence_ends_the_waiting(tmp_path: Path) -> None:
    with a_world(tmp_path) as made:
        made.start("silent", [sys.executable, "-c", "input()"])
        with pytest.raises(PeerError, match="the end of a round did not come within 0 s"):
            made.until(lambda: False, "the end of a round", seconds=0)


def test_a_program_that_takes_too_much_memory_is_stopped(tmp_path: Path) -> None:
    with a_world(tmp_path, limit_bytes=1) as made:
        made.start("greedy", [sys.executable, "-c", "input()"])
        with pytest.raises(MemoryExceededError, match="greedy took more than"):
            made.until(lambda: False, "anything")


def test_a_peer_gets_its_own_python_and_no_way_to_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    with a_world(tmp_path) as made:
        environment = made.environment()
    assert "PYTHONPATH" not in environment
    assert environment["PATH"].startswith(str(Path(sys.executable).parent))
    assert environment["HOME"] == environment["TMPDIR"] == str(tmp_path / "world")
