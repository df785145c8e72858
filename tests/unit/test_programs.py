"""Our own programs are found wherever a command was started from."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from p2pfl.programs import PYTHON, detached, ending_signals, environment, start
from tests.support.source import ROOT


def test_the_package_is_found_from_any_folder_and_nothing_in_that_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')", encoding="utf-8")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with start("p2pfl", "--version", cwd=tmp_path, stdout=subprocess.PIPE) as process:
        printed, _ = process.communicate()
    assert printed.startswith(b"p2pfl ")


def test_what_was_in_the_search_path_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    assert environment()["PYTHONPATH"] == f"{ROOT}{os.pathsep}/mine"


def test_a_process_that_is_apart_is_in_a_session_of_its_own() -> None:
    code = "import os; print(os.getsid(0) == os.getpid())"
    done = subprocess.run([PYTHON[0], "-c", code], capture_output=True, text=True, **detached())
    assert done.stdout == "True\n"


def test_a_sighup_that_is_ignored_ends_nothing() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert ending_signals() == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert ending_signals() == [signal.SIGINT, signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before)
