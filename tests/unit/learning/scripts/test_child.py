from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from p2pfl.errors import TaskError
from p2pfl.learning import commands
from p2pfl.learning.scripts import child
from p2pfl.learning.scripts.child import MAX_FAILURES, ScriptRunner, explain_end
from p2pfl.learning.scripts.trainer import TrainerServer
from p2pfl.work import TrainingResult
from tests.support.trainers import training

WAIT_SECONDS = 60.0

BEGIN = """
import os, sys
from pathlib import Path
from p2pfl.cards import DataCard
from p2pfl.learning import commands
from p2pfl.learning.scripts.node_link import NodeLink
from p2pfl.learning.scripts.frames import TrainerEndpoint, TrainerRunOver
from p2pfl.work import TrainingResult

link = NodeLink(TrainerEndpoint.from_text(os.environ["P2PFL_TRAINER"]))

def train():
    job = link.take()
    if isinstance(job, TrainerRunOver):
        return False
    if job.job.trained == int(sys.argv[1]):
        raise ValueError("bad batch")
    link.send(commands.TrainingDone(job.id, TrainingResult("d", DataCard("train", 8, ()), 1, 0.5, 1.0)))
    return True
"""
"""How a script of a few lines begins, which needs no torch; it fails in the round after its argument."""

LINE_OF_FAILURE = 1 + BEGIN.splitlines().index('        raise ValueError("bad batch")')


class Node:
    """A server, its child, and what was told to the user."""

    def __init__(self, folder: Path, server: TrainerServer) -> None:
        self.folder = folder
        self.server = server
        self.ends: asyncio.Queue[str] = asyncio.Queue()
        self.failures: asyncio.Queue[str] = asyncio.Queue()
        self.runner: ScriptRunner

    def start(self, source: str, *arguments: str) -> None:
        path = self.folder / "train.py"
        path.write_text(source)
        self.runner = ScriptRunner(
            (str(path), *arguments),
            self.server,
            on_end=self.ends.put_nowait,
            on_failure=self.failures.put_nowait,
        )
        self.runner.start()

    async def train(self, trained: int) -> TrainingResult:
        command = commands.RunTraining(self.server.next_id(), training(trained=trained), "blobs", "new")
        answer = await asyncio.wait_for(self.server.ask(command), WAIT_SECONDS)
        assert isinstance(answer, commands.TrainingDone)
        return answer.result


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    server = TrainerServer("train")
    await server.open(tmp_path)
    opened = Node(tmp_path, server)
    yield opened
    await opened.runner.close()
    await server.close("the test is over")


async def test_a_failure_fails_its_job_with_the_line_and_the_script_goes_on_with_the_next(node: Node) -> None:
    node.start(BEGIN + "while train(): pass\n", "1")
    assert (await node.train(0)).digest == "d"
    with pytest.raises(TaskError) as failed:
        await node.train(1)
    assert str(failed.value) == f"train.py, line {LINE_OF_FAILURE}: ValueError: bad batch"
    assert (await node.train(2)).digest == "d"
    assert node.ends.empty()


async def test_a_job_fails_with_its_reason_before_the_process_has_ended(node: Node) -> None:
    slow = "import atexit, signal; atexit.register(signal.pause)\n"
    node.start(BEGIN + slow + "try: train()\nfinally: link.close()\n", "0")
    with pytest.raises(TaskError, match="ValueError: bad batch"):
        await node.train(0)
    assert node.runner.pid is not None
    assert psutil.pid_exists(node.runner.pid)


async def test_a_script_that_fails_three_times_in_a_row_is_given_up(node: Node) -> None:
    node.start("import does_not_exist\n")
    for _ in range(MAX_FAILURES):
        with pytest.raises(TaskError, match=r"^train.py, line 1: ModuleNotFoundError"):
            await node.train(0)
    told = await asyncio.wait_for(node.failures.get(), WAIT_SECONDS)
    assert told.startswith(
        "train.py failed 3 times in a row without an update, the last time: train.py, line 1"
    )
    assert "votes and trains no more" in told
    with pytest.raises(TaskError, match="3 times in a row"):
        await node.train(0)


async def test_an_update_between_failures_counts_anew(node: Node) -> None:
    node.start(BEGIN + "while train(): pass\n", "1")
    for _ in range(MAX_FAILURES):
        assert (await node.train(0)).digest == "d"
        with pytest.raises(TaskError, match="bad batch"):
            await node.train(1)
    assert (await node.train(0)).digest == "d"
    assert node.failures.empty()


async def test_a_script_that_fails_between_two_jobs_is_reported_and_no_job_fails(node: Node) -> None:
    node.start(BEGIN + "train()\nraise RuntimeError('plot')\n", "-1")
    assert (await node.train(0)).digest == "d"
    told = await asyncio.wait_for(node.ends.get(), WAIT_SECONDS)
    assert (await node.train(1)).digest == "d"
    line = BEGIN.count("\n") + 2
    assert told == f"train.py, line {line}: RuntimeError: plot"


async def test_a_script_may_finish_after_its_run(node: Node) -> None:
    node.start(BEGIN + "while train(): pass\nPath(sys.argv[2]).write_text('saved')\n", "-1", "saved.txt")
    await node.train(0)
    pid = node.runner.pid
    assert pid is not None
    folder = Path(psutil.Process(pid).cwd())
    node.server.end_run("")
    await node.runner.close()
    saved = folder / "saved.txt"
    assert saved.read_text() == "saved"
    saved.unlink()
    assert node.ends.empty()


async def test_a_script_that_goes_on_after_its_run_for_too_long_is_ended(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "END_SECONDS", 0.05)
    node.start(BEGIN + "while train(): pass\nimport threading; threading.Event().wait()\n", "-1")
    await node.train(0)
    pid = node.runner.pid
    node.server.end_run("")
    await node.runner.close()
    assert pid is not None
    assert not psutil.pid_exists(pid)


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
async def test_closing_ends_the_script_and_what_it_has_started(node: Node) -> None:
    child = "import subprocess; child = subprocess.Popen(['/bin/cat'], stdin=subprocess.PIPE)\n"
    node.start(
        BEGIN + child + "link.task and train()\nprint(child.pid, flush=True)\nwhile train(): pass\n", "-1"
    )
    await node.train(0)
    pid = node.runner.pid
    assert pid is not None
    children = psutil.Process(pid).children()
    assert os.getpgid(pid) == pid != os.getpgid(0)
    assert len(children) == 1
    await node.runner.close()
    assert not psutil.pid_exists(pid)
    _, alive = psutil.wait_procs(children, WAIT_SECONDS)
    assert not alive


TRACEBACK = """Traceback (most recent call last):
  File "<frozen runpy>", line 88, in _run_code
  File "/opt/work/train.py", line 12, in <module>
    step(batch)
    ^^^^^^^^^^^
  File "/opt/work/{inner}", line 7, in step
    raise ValueError("no")
{error}
"""


@pytest.mark.parametrize(
    ("lines", "code", "expected"),
    [
        (TRACEBACK.format(inner="train.py", error="ValueError: no"), 1, "train.py, line 7: ValueError: no"),
        (
            TRACEBACK.format(inner="nets/cnn.py", error="KeyError: 'x'"),
            1,
            "nets/cnn.py, line 7: KeyError: 'x'",
        ),
        (
            TRACEBACK.format(
                inner="env/site-packages/torch/nn.py", error="RuntimeError: shapes\nin two lines"
            ),
            1,
            "train.py, line 12: RuntimeError: shapes",
        ),
        (
            TRACEBACK.format(inner="train.py", error="ValueError: no")
            + "\nDuring handling of the above exception, another exception occurred:\n\n"
            + TRACEBACK.format(inner="more.py", error="TypeError: later"),
            1,
            "more.py, line 7: TypeError: later",
        ),
        (
            '  File "/opt/work/train.py", line 3\n    x = =\n        ^\nSyntaxError: invalid syntax',
            1,
            "train.py, line 3: SyntaxError: invalid syntax",
        ),
        ('Traceback:\n  File "/usr/lib/x.py", line 3\nOSError: gone', 1, "train.py: OSError: gone"),
        ("a warning", 3, "train.py ended with exit code 3; its last output: a warning"),
        ("", 3, "train.py ended with exit code 3"),
        ("", -9, "train.py was killed by SIGKILL"),
        ("a warning", 0, "train.py ended before the run was over"),
    ],
)
def test_an_end_is_explained_with_the_line_of_the_user(lines: str, code: int, expected: str) -> None:
    assert explain_end(Path("/opt/work/train.py"), code, lines.splitlines()) == expected


def test_an_error_of_ours_is_named_without_its_module() -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "/x/train.py", line 3, in <module>',
        "    submit()",
    ]
    found = explain_end(Path("/x/train.py"), 1, [*lines, "p2pfl.errors.TaskError: Training diverged: no"])
    assert found == "train.py, line 3: TaskError: Training diverged: no"
