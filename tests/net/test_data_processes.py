"""Runs of pictures in real processes: data from a folder, and what is said when they cannot be had."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfl import events
from tests.support.images import write_images
from tests.support.processes import Fleet, Process, digests, fleet

pytestmark = pytest.mark.processes


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        yield opened


def log_of(process: Process, folder: Path) -> str:
    """Return all that *process* left of itself in print and in its logs."""
    logs = (folder / process.name).rglob("*.log*")
    return process.output + "".join(path.read_text(encoding="utf-8") for path in logs)


@pytest.mark.long
@pytest.mark.xdist_group("data")
async def test_two_nodes_train_on_pictures_from_a_folder_and_evaluate_the_whole_test_split(
    nodes: Fleet, tmp_path: Path
) -> None:
    write_images(tmp_path / "pictures", 60_000, 10_000)
    options = ("--task=fashion-mnist", f"--data-root={tmp_path / 'pictures'}", "--rounds=1")
    two = await nodes.start_all("ada", "ben", options=options)
    assert [await process.exit_code() for process in two] == [0, 0]
    rows = nodes.rounds()
    assert all(len(found) == 1 for found in digests(rows).values())
    assert sum(update.examples for update in rows["ada"][0].updates) == 60_000
    assert rows["ada"][0].examples == 10_000
    [ended] = two[0].all(events.RunEnded)
    assert ended.primary_value is not None
    assert ended.primary_value > 0.9
    ready = two[0].all(events.WorkerReady)[0]
    assert (ready.task, ready.parameters) == ("fashion-mnist", 199_210)


@pytest.mark.long
@pytest.mark.xdist_group("data")
async def test_a_download_without_a_network_is_one_sentence_and_exit_code_2(
    nodes: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):  # the discard port: nothing listens there
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    root = tmp_path / "pictures"
    ada = nodes.start_unheard("ada", "--min-nodes=1", "--task=mnist", f"--data-root={root}", "--download")
    assert await ada.exit_code() == 2
    words = "; check the network, or copy them from another device (Connection refused)."
    assert f"The data of the task 'mnist' could not be downloaded to {root}{words}" in ada.output
    assert "Traceback" not in log_of(ada, tmp_path)
    assert list(root.iterdir()) == []


async def test_a_node_without_its_data_says_so_at_once(nodes: Fleet, tmp_path: Path) -> None:
    ada = nodes.start_unheard("ada", "--task=cifar10", f"--data-root={tmp_path / 'nothing'}")
    assert await ada.exit_code() == 2
    assert ada.output.startswith(
        "p2pfl: The data of the task 'cifar10' are not on this device; use --download"
    )
    assert len(ada.output.splitlines()) == 1
    assert ada.all(events.Started) == []
