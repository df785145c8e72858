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
