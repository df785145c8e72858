"""`p2pfl demo` as a user runs it: it ends well, goes on without the dead, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from p2pfl import events
from p2pfl.demo.control import DemoReport, LocalOnlyModel
from p2pfl.runtime.observing.follow import EventFollower
from tests.support.processes import PATIENCE_SECONDS, until
from tests.support.source import ROOT
from tests.support.terminals import Terminal, terminal
from tui.control import DemoControl
from tui.source import Replay

pytestmark = pytest.mark.processes

QUICK = ("--no-tui", "--model=2nn")


async def start(*options: str, quick: tuple[str, ...] = QUICK) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "p2pfl", "demo", *quick, *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


async def finish(demo: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """Wait for the end; return exit code and output."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            output, _ = await demo.communicate()
    finally:
        if demo.returncode is None:
            demo.kill()
            await demo.wait()
    return demo.returncode, output.decode()


def sorted_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def nodes_of(demo: asyncio.subprocess.Process) -> list[psutil.Process]:
    """The processes below *demo*: nodes and their workers."""
    return psutil.Process(demo.pid).children(recursive=True)


async def line_with(demo: asyncio.subprocess.Process, words: str) -> None:
    """Read the output of *demo* up to the line with *words*."""
    assert demo.stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        while words.encode() not in (line := await demo.stdout.readline()):
            assert line, f"the demo ended without {words!r}"


@pytest.mark.long
@pytest.mark.xdist_group("demo")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        pytest.param("classification", "best model trained alone", marks=pytest.mark.nightly),
        pytest.param("regression", "mse", marks=pytest.mark.nightly),
        pytest.param("segmentation", "best model trained alone", marks=pytest.mark.nightly),
        pytest.param("text", "best model trained alone", marks=pytest.mark.nightly),
        ("script", "no models are trained alone to compare"),
    ],
)
async def test_every_template_runs_unchanged_in_a_demo(kind: str, words: str) -> None:
    template = ROOT / "p2pfl" / "learning" / "own" / "templates" / f"{kind}.py"
    demo = await start(f"--task={template}", "--nodes=2", "--rounds=2", quick=("--no-tui",))
    code, output = await finish(demo)
    assert code == 0, output
    assert "all 2 nodes hold the same model" in output
    assert words in output


async def test_a_demo_ends_with_one_model_and_a_comparison_and_can_be_repeated(tmp_path: Path) -> None:
    options = ("--nodes=3", "--rounds=4", f"--dir={tmp_path}")
    code, output = await finish(await start(*options))
    assert code == 0, output
    assert output.count("is the aggregator") >= 4
    assert output.count("round 4 committed by") == 1
    held = re.search(r"all 3 nodes hold the same model, BLAKE3 [0-9a-f]{12}\n", output)
    assert held
    assert re.search(r"federated model +0\.\d{4}", output)
    assert re.search(r"best model trained alone +0\.\d{4} +node-[123]: \d+ samples, 8 epochs", output)
    code, again = await finish(await start(*options))
    assert code == 0, again
    assert "has ended in this folder" in again
    assert held[0] in again


@pytest.mark.long
@pytest.mark.xdist_group("demo")
async def test_a_demo_goes_on_without_a_node_that_was_killed(tmp_path: Path) -> None:
    demo = await start("--nodes=3", "--rounds=3", "--pace=1", f"--dir={tmp_path}")
    await line_with(demo, "round 1 committed")
    victim = next(one for one in nodes_of(demo) if str(tmp_path / "node-2") in one.cmdline())
    victim.send_signal(signal.SIGKILL)
    code, output = await finish(demo)
    assert code == 0, output
    assert "✗ node-2 was killed by SIGKILL" in output
    assert "node-1, node-3 hold the same model" in output


async def test_ctrl_c_ends_all_processes_of_a_demo_and_removes_its_folder() -> None:
    demo = await start("--nodes=3", "--pace=5")
    await line_with(demo, "is the aggregator")
    below = nodes_of(demo)
    commands = [one.cmdline() for one in below]
    folders = {
        Path(words[words.index("--data-dir") + 1]).parent for words in commands if "--data-dir" in words
    }
    assert [folder.exists() for folder in folders] == [True]
    demo.send_signal(signal.SIGINT)
    code, output = await finish(demo)
    assert code == 130
    assert "Traceback" not in output
    assert [folder.exists() for folder in folders] == [False]
    await until(lambda: not any(one.is_running() for one in below), "the end of every process")


@pytest.mark.long
@pytest.mark.xdist_group("demo")
async def test_a_demo_that_is_killed_leaves_no_process_and_the_next_one_removes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    demo = await start("--nodes=2", "--pace=5")
    await line_with(demo, "is the aggregator")
    below = nodes_of(demo)
    demo.kill()
    await finish(demo)
    await until(lambda: not any(one.is_running() for one in below), "the end of every process")
    [left] = [path for path in sorted_in(tmp_path) if path.name.startswith("p2pfl-demo-")]
    code, output = await finish(await start("--nodes=2", "--rounds=1"))
    assert code == 0, output
    assert not left.exists()


class Told:
    """What comes from somewhere, as it comes."""

    def __init__(self, read: Callable[[], list[Any]]) -> None:
        self._read = read
        self._found: list[Any] = []

    async def until(self, kind: type[events.Event], count: int, shown: Terminal, words: str = "") -> None:
        """Wait until *count* things of *kind* came, with *words* in their text."""

        def look() -> bool:
            self._found += self._read()
            return (
                sum(isinstance(one, kind) and words in getattr(one, "text", "") for one in self._found)
                >= count
            )

        try:
            await until(look, f"{count} {kind.__name__}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{shown.text[-4000:]}") from error


@pytest.mark.long
@pytest.mark.xdist_group("demo")
async def test_on_a_terminal_nodes_are_killed_and_started_while_one_looks(tmp_path: Path) -> None:
    words = ("demo", "--model=2nn", "--nodes=3", "--rounds=4", "--pace=1", f"--dir={tmp_path}")
    async with terminal(*words) as shown:
        await shown.until("Overview")
        below = psutil.Process(shown.process.pid).children(recursive=True)
        restored_at_first = shown.is_restored
        assert not restored_at_first
        follower, control = EventFollower(tmp_path / "node-1.events.jsonl"), DemoControl(tmp_path)
        first = Told(lambda: [one.event for one in follower.read()])
        demo = Told(lambda: [report.what for report in control.read()])
        await first.until(events.Committed, 1, shown)
        control.do("kill", "node-2")
        await demo.until(events.Notice, 1, shown, "node-2 was killed")
        control.do("start", "node-2")
        await demo.until(events.Notice, 1, shown, "node-2 is started again")
        await demo.until(LocalOnlyModel, 3, shown)
        assert shown.process.poll() is None, "it stays as long as one looks"
        shown.press("q")
        assert await shown.exit_code() == 0, shown.text[-4000:]
        assert shown.is_restored
        said = shown.text
        for words_said in (
            "✗ node-2 was killed by SIGKILL",
            "· node-2 is started again",
            "✓ all 3 nodes hold the same model, BLAKE3 ",
            "federated model           0.",
            "best model trained alone  0.",
        ):
            assert words_said in said
    await until(lambda: not any(one.is_running() for one in below), "the end of every process")


@pytest.mark.long
@pytest.mark.xdist_group("demo")
async def test_who_looks_away_early_sees_the_demo_end_in_lines(tmp_path: Path) -> None:
    words = ("demo", "--model=2nn", "--nodes=2", "--rounds=2", "--pace=0.5", f"--dir={tmp_path}")
    async with terminal(*words) as shown:
        await shown.until("Overview")
        shown.press("q")
        assert await shown.exit_code() == 0, shown.text[-4000:]
        assert "✓ all 2 nodes hold the same model, BLAKE3 " in shown.text
        assert "federated model           0." in shown.text


async def test_a_demo_that_is_told_to_end_gives_the_terminal_back(tmp_path: Path) -> None:
    words = ("demo", "--model=2nn", "--nodes=2", "--pace=5", f"--dir={tmp_path}")
    async with terminal(*words) as shown:
        await shown.until("Overview")
        below = psutil.Process(shown.process.pid).children(recursive=True)
        shown.process.send_signal(signal.SIGTERM)
        assert await shown.exit_code() == 130, shown.text[-4000:]
        assert shown.is_restored
    await until(lambda: not any(one.is_running() for one in below), "the end of every process")


@pytest.mark.long
@pytest.mark.xdist_group("demo")
async def test_a_demo_kills_a_node_in_the_round_it_is_told_and_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "demo.jsonl"
    code, output = await finish(
        await start("--nodes=3", "--rounds=5", "--pace=1", "--kill-at=2", f"--record={path}", "--lr=0.1")
    )
    assert code == 0, output
    for words in ("slowed down to be watched", "node-3 was killed by SIGKILL", "node-3 is started again"):
        assert words in output
    replay = Replay(path)
    assert [*replay.rounds] == [1, 2, 3, 4, 5]
    assert replay.damaged == 0
    assert {"commit", "election", "join", "loss"} <= {mark.kind for mark in replay.marks}
    texts = [item.what for item in replay.items if isinstance(item, DemoReport)]
    assert sum(isinstance(what, LocalOnlyModel) for what in texts) == 3


@pytest.mark.long
@pytest.mark.xdist_group("demo")
async def test_on_a_terminal_a_demo_without_rounds_ends_when_one_has_seen_a_node_come_back(
    tmp_path: Path,
) -> None:
    words = ("demo", "--model=2nn", "--nodes=3", "--pace=0.5", f"--dir={tmp_path}")
    async with terminal(*words) as shown:
        await shown.until("Overview")
        follower, control = EventFollower(tmp_path / "node-1.events.jsonl"), DemoControl(tmp_path)
        first = Told(lambda: [one.event for one in follower.read()])
        demo = Told(lambda: [report.what for report in control.read()])
        await first.until(events.Committed, 2, shown)
        control.do("kill", "node-2")
        await demo.until(events.Notice, 1, shown, "node-2 was killed")
        control.do("start", "node-2")
        await first.until(events.RunEnded, 1, shown)
        await demo.until(LocalOnlyModel, 3, shown)
        shown.press("q")
        assert await shown.exit_code() == 0, shown.text[-4000:]
        assert "you have seen a node go and come back" in shown.text
