from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl.errors import DataDirectoryError, UserError
from p2pfl.store import directory
from p2pfl.store.blobs import BlobStore
from p2pfl.store.directory import DataDirectory, default_data_dir
from p2pfl.store.journal import Journal
from tests.support.records import node

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has neither mode bits nor SIGKILL")

HOLDER = """
import sys
from pathlib import Path
from p2pfl.store.directory import DataDirectory
held = DataDirectory(Path(sys.argv[1])).open()
print("held", flush=True)
sys.stdin.read()
"""


def test_open_makes_the_directory_with_its_parents(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "a" / "b") as opened:
        assert opened.path.is_dir()
        assert opened.logs_path.is_dir()
        BlobStore(opened.blobs_path)
        Journal.open(opened.journal_path, node("ada")).close()
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {
        "journal.sqlite",
        "blobs",
        "logs",
        "lock",
    }


@posix_only
def test_the_directory_is_for_this_user_only(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "new") as opened:
        assert stat.S_IMODE(opened.path.stat().st_mode) == 0o700


def test_a_second_node_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    with (
        DataDirectory(tmp_path),
        pytest.raises(
            DataDirectoryError, match=rf"{tmp_path} is in use by process {os.getpid()}; .*--data-dir"
        ),
    ):
        DataDirectory(tmp_path).open()
    with DataDirectory(tmp_path) as again:
        assert (tmp_path / "lock").read_text() == str(os.getpid())
        assert again.path == tmp_path


@posix_only
def test_a_killed_holder_frees_the_directory(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataDirectoryError, match=f"in use by process {holder.pid};"):
            DataDirectory(tmp_path).open()
        holder.send_signal(signal.SIGKILL)
    with DataDirectory(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    opened = DataDirectory(tmp_path).open()
    opened.close()
    opened.close()
    DataDirectory(tmp_path).open().close()


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(directory, "_lock_file", refuse)
    with pytest.raises(DataDirectoryError, match=r"cannot lock .*lock: No locks available"):
        DataDirectory(tmp_path).open()


def test_reading_needs_no_lock_and_makes_nothing(tmp_path: Path) -> None:
    reader = DataDirectory(tmp_path / "none")
    with pytest.raises(DataDirectoryError, match="there is no data directory"):
        reader.read_journal()
    assert reader.read_blobs().digests() == frozenset()
    assert list(tmp_path.iterdir()) == []
    with (
        DataDirectory(tmp_path) as opened,
        Journal.open(opened.journal_path, node("ada")),
        DataDirectory(tmp_path).read_journal() as journal,
    ):
        assert journal.runs() == []


@pytest.mark.parametrize(
    ("name", "folder"),
    [("ada", "ada"), ("a/b", "a_b"), ("..", "_"), ("x y\x1b", "x_y_"), (".hidden", "_hidden")],
)
def test_the_default_folder_is_named_after_the_node_and_stays_below_the_user_s_data(
    name: str, folder: str
) -> None:
    path = default_data_dir(name)
    assert path.name == folder
    assert path.parent == default_data_dir("other").parent


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights than these")
def test_a_journal_is_private_also_in_a_folder_that_is_open_to_others(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    (tmp_path / "shared" / "holiday.txt").touch()
    with DataDirectory(tmp_path / "shared").open() as directory:
        assert directory.journal_path.stat().st_mode & 0o777 == 0o600
        directory.journal_path.chmod(0o644)
    with DataDirectory(tmp_path / "shared").open() as directory:
        assert directory.journal_path.stat().st_mode & 0o777 == 0o600
        assert directory.path.stat().st_mode & 0o777 == 0o755
    with DataDirectory(tmp_path / "new" / "one").open() as directory:
        assert {path.stat().st_mode & 0o777 for path in (directory.path, directory.logs_path)} == {0o700}


@posix_only
def test_a_directory_of_a_node_alone_is_closed_to_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with DataDirectory(tmp_path / "node").open() as opened:
        Journal.open(opened.journal_path, node("ada")).close()
        BlobStore(opened.blobs_path)
    (tmp_path / "node" / "saved").mkdir()
    for folder in (opened.path, opened.blobs_path, opened.logs_path):
        folder.chmod(0o755)
    with DataDirectory(tmp_path / "node").open():
        modes = [
            stat.S_IMODE(path.stat().st_mode) for path in (opened.path, opened.blobs_path, opened.logs_path)
        ]
    assert modes == [0o700] * 3
    assert caplog.messages == []


def test_a_name_too_long_for_the_file_system_is_told(tmp_path: Path) -> None:
    for refused in (DataDirectory(tmp_path / ("n" * 300)).check, DataDirectory(tmp_path / ("n" * 300)).open):
        with pytest.raises(
            DataDirectoryError, match="too long for this file system; choose another --data-dir"
        ):
            refused()


def test_a_user_without_a_home_has_no_usual_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "user_data", lambda name: None)
    with pytest.raises(UserError, match=r"no home folder .* give --data-dir"):
        default_data_dir("ada")
