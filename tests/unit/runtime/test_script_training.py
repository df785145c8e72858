from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from p2pfl import events
from p2pfl.learning.process import Worker
from p2pfl.learning.scripts.frames import ENDPOINT_FILE, TrainerRunOver, read_endpoint
from p2pfl.learning.scripts.node_link import NodeLink
from p2pfl.learning.scripts.trainer import TrainerWorker
from p2pfl.runtime.node_config import ScriptSettings
from p2pfl.runtime.observing.publish import Publisher
from p2pfl.runtime.script_training import script_training
from p2pfl.store.directory import DataDirectory

ENDED = events.RunEnded("run", 3, "digest", {})


async def test_without_a_script_the_worker_does_all_jobs(tmp_path: Path) -> None:
    worker = Worker()
    async with script_training(None, "digits", worker, DataDirectory(tmp_path), Publisher(lambda: 0)) as jobs:
        assert jobs is worker
    assert await asyncio.to_thread(os.listdir, tmp_path) == []


async def test_a_program_finds_the_node_in_its_folder_and_hears_of_the_end_of_the_run(tmp_path: Path) -> None:
    publisher, directory = Publisher(lambda: 0), DataDirectory(tmp_path)
    async with script_training(
        ScriptSettings(token="secret"), "mine", Worker(), directory, publisher
    ) as jobs:
        assert isinstance(jobs, TrainerWorker)
        assert stat.S_IMODE((tmp_path / ENDPOINT_FILE).stat().st_mode) == 0o600
        endpoint = read_endpoint(tmp_path)
        assert endpoint is not None
        assert endpoint.token == "secret"
        link = await asyncio.to_thread(NodeLink, endpoint)
        assert link.task == "mine"
        publisher.publish(ENDED)
        over = await asyncio.to_thread(link.take)
        assert over == TrainerRunOver(str(directory.blobs_path / "digest"))
        link.close()
    assert await asyncio.to_thread(os.listdir, tmp_path) == []


async def test_the_failures_of_a_script_are_told_to_the_user(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("1 / 0\n")
    told: asyncio.Queue[events.AnyEvent] = asyncio.Queue()
    publisher = Publisher(lambda: 0)
    publisher.add(lambda published: told.put_nowait(published.event))
    settings = ScriptSettings((str(script),))
    async with script_training(settings, "train", Worker(), DataDirectory(tmp_path), publisher):
        seen = [await asyncio.wait_for(told.get(), 60) for _ in range(4)]
    reason = "train.py, line 1: ZeroDivisionError: division by zero"
    assert seen[:3] == [events.Notice("warning", reason)] * 3
    last = seen[3]
    assert isinstance(last, events.Notice)
    assert last.level == "error"
    assert "failed 3 times in a row" in last.text
