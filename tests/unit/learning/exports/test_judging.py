from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pfl import programs
from p2pfl.errors import UserError, WorkerError
from p2pfl.learning.exports.judging import (
    EvaluateModel,
    Failed,
    Judged,
    Predicted,
    PredictInputs,
    ask,
    code_of,
    path_of,
    read_request,
    write_answer,
)
from p2pfl.learning.tasks.digits import TASK as DIGITS
from tests.support.exported import export_module
from tests.support.learning import SPEC
from tests.support.records import AGREEMENT
from tests.support.source import ROOT

REQUEST = PredictInputs("model.safetensors", ("a.png", "ñ.png"), "cpu")


def instead(monkeypatch: pytest.MonkeyPatch, code: str) -> list[subprocess.Popen[bytes]]:
    """Start *code* in place of the process that has torch; return the processes."""
    started: list[subprocess.Popen[bytes]] = []

    def start(module: str, **settings: Any) -> subprocess.Popen[bytes]:
        assert module == "p2pfl.learning.exports.judge"
        started.append(subprocess.Popen([sys.executable, "-c", code], env=programs.environment(), **settings))
        return started[-1]

    monkeypatch.setattr(programs, "start", start)
    return started


def test_the_process_gets_the_request_and_its_answers_come_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = (
        "import sys; from p2pfl.learning.exports.judging import *; r = read_request(sys.stdin.buffer.read())\n"
        "for file in r.files: sys.stdout.buffer.write(write_answer(Predicted(file, label='cat')))"
    )
    started = instead(monkeypatch, code)
    assert list(ask(REQUEST)) == [Predicted("a.png", label="cat"), Predicted("ñ.png", label="cat")]
    assert started[0].returncode == 0


def test_a_failure_is_raised_as_the_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    line = write_answer(Failed("The data are missing."))
    started = instead(monkeypatch, f"import sys; sys.stdin.read(); sys.stdout.buffer.write({line!r})")
    with pytest.raises(UserError, match=r"The data are missing\."):
        list(ask(REQUEST))
    assert started[0].poll() is not None


@pytest.mark.parametrize("code", ["import sys; sys.stdin.read(); sys.exit(9)", "import sys; sys.exit(9)"])
def test_a_process_that_breaks_off_is_not_taken_for_an_answer(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    instead(monkeypatch, code)
    with pytest.raises(WorkerError, match=r"ended unexpectedly \(exit code 9\)"):
        list(ask(REQUEST))


def test_the_process_ends_with_the_one_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    line = write_answer(Predicted("a.png"))
    code = f"import sys; sys.stdin.read(); sys.stdout.buffer.write({line!r}); sys.stdout.flush(); input = None\nwhile True: pass"
    started = instead(monkeypatch, code)
    asked = ask(REQUEST)
    assert next(asked) == Predicted("a.png")
    asked.close()  # type: ignore[attr-defined]  # a generator
    assert started[0].poll() is not None


def test_requests_are_text_and_back() -> None:
    line = b'{"type":"predict","model":"m","files":["a"],"device":"cpu"}'
    assert read_request(line) == PredictInputs("m", ("a",), "cpu")


def test_the_real_process_answers(tmp_path: Path) -> None:
    path = export_module(tmp_path, DIGITS.build("2nn"), SPEC, AGREEMENT)
    [judged] = ask(EvaluateModel(str(path), device="cpu"))
    assert isinstance(judged, Judged)
    assert judged.evaluation.examples == 360
    with pytest.raises(UserError, match="'tpu9' cannot be used here"):
        list(ask(EvaluateModel(str(path), device="tpu9")))


def test_the_task_of_another_process_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert code_of("mine.py") == str(tmp_path / "mine.py")
    assert code_of("package.module:task") == "package.module:task"
    assert (code_of(None), path_of(None), path_of(Path("a"))) == ("", "", "a")


def test_asking_imports_no_torch() -> None:
    code = "import sys, p2pfl.learning.exports.judging, p2pfl.learning.exports.model_info; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
