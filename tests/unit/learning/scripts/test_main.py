from __future__ import annotations

import subprocess
from pathlib import Path

from p2pfl.programs import detached, start

WAIT_SECONDS = 60.0


def run(path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return start(
        "p2pfl.learning.scripts.main",
        str(path),
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **detached(),
    )


def test_a_script_runs_as_it_does_by_itself(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("WORD = 'helped'\n")
    path = tmp_path / "train.py"
    path.write_text(
        "import sys, helper\nprint(__name__, sys.argv[1:], helper.WORD, repr(sys.stdin.read()))\n"
    )
    process = run(path, "--epochs", "2")
    assert process.stdout is not None
    assert process.stdout.read().decode().split("\n")[0] == "__main__ ['--epochs', '2'] helped ''"
    assert process.wait(WAIT_SECONDS) == 0
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def test_it_ends_with_the_program_that_holds_its_input(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text("import threading\nprint('runs', flush=True)\nthreading.Event().wait()\n")
    process = run(path)
    assert process.stdout is not None
    assert process.stdout.readline() == b"runs\n"
    assert process.poll() is None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(WAIT_SECONDS) != 0
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def test_a_traceback_shows_the_lines_of_the_user_only(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text("from p2pfl.learning.scripts.metrics import checked_count\nchecked_count(-1, 'It')\n")
    process = run(path)
    assert process.stderr is not None
    lines = process.stderr.read().decode().splitlines()
    assert process.wait(WAIT_SECONDS) == 1
    assert [line for line in lines if line.lstrip().startswith("File ")] == [
        f'  File "{path}", line 2, in <module>'
    ]
    assert lines[-1] == "p2pfl.errors.TaskError: It is -1, and a whole number of at least 1 is needed."
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
