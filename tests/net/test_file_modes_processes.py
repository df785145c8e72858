"""What a real node writes is readable by its user only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from p2pfl import events
from tests.support.processes import LIGHT, Process, fleet

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.name != "posix", reason="needs permission bits"),
]


def open_to_others(folder: Path) -> list[str]:
    """Return what in *folder*, itself included, gives any right to other users, with its mode."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in paths}
    return [f"{path.relative_to(folder)} {mode:o}" for path, mode in modes.items() if mode & 0o077]


async def finish(process: Process) -> None:
    await process.until(events.RunEnded)
    assert await process.exit_code() == 0


@pytest.mark.long
@pytest.mark.xdist_group("file_modes")
async def test_a_run_leaves_nothing_that_other_users_can_read(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        async with fleet(tmp_path) as nodes:
            wide = tmp_path / "ada"
            wide.mkdir(mode=0o755)
            ada = await nodes.start("ada", "--min-nodes=1", "--rounds=2", program=LIGHT)
            await ada.until(events.Committed)
            assert open_to_others(wide) == []
            await finish(ada)
            assert {"journal.sqlite", "blobs", "logs", "lock"} <= {path.name for path in wide.iterdir()}
            assert open_to_others(wide) == []
            assert open_to_others(tmp_path / "certs") == ["ca.crt 644", "ada/ca.crt 644", "ada/node.crt 644"]
            assert stat.S_IMODE((tmp_path / "ada.0.jsonl").stat().st_mode) == 0o600
    finally:
        os.umask(before)


async def test_a_data_directory_that_others_could_read_is_closed_at_the_next_start(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        await finish(await nodes.start("ada", "--min-nodes=1", "--rounds=1", program=LIGHT))
        for folder in (tmp_path / "ada", tmp_path / "ada" / "blobs"):
            folder.chmod(0o755)
        await finish(await nodes.start("ada", "--min-nodes=1", "--rounds=2", program=LIGHT))
        assert open_to_others(tmp_path / "ada") == []


async def test_a_folder_with_files_of_others_keeps_its_mode_and_the_user_is_told(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        shared = tmp_path / "ada"
        shared.mkdir(mode=0o755)
        (shared / "holiday.txt").write_text("of somebody else", encoding="utf-8")
        ada = await nodes.start("ada", "--min-nodes=1", "--rounds=1", program=LIGHT)
        await finish(ada)
        assert stat.S_IMODE(shared.stat().st_mode) == 0o755
        assert "keep the node's files in a folder of their own with --data-dir" in ada.output
        assert [line for line in open_to_others(shared) if "holiday" not in line and line != ". 755"] == []
