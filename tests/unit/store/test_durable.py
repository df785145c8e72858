from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from p2pfl.errors import DataDirectoryError, OutOfFilesError
from p2pfl.store import durable
from p2pfl.store.durable import BackgroundFlush, HintedFlush, disk_errors, flush_ahead, make_folder


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "cannot write /x: the disk is full; free some space"),
        (errno.EROFS, "cannot write /x: the file system is read-only;"),
        (errno.EACCES, "cannot write /x: this user may not; change the permissions"),
        (errno.EIO, "cannot write /x: the disk reports an error; check the disk"),
        (errno.ENOTTY, f"cannot write /x: {os.strerror(errno.ENOTTY)}"),
    ],
)
def test_a_refusal_is_told_with_what_to_do(number: int, told: str) -> None:
    with pytest.raises(DataDirectoryError) as caught, disk_errors("write", Path("/x")):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(told)
    assert isinstance(caught.value.__cause__, OSError)
    assert not isinstance(caught.value, OutOfFilesError)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_are_no_fault_of_the_disk(number: int) -> None:
    with pytest.raises(OutOfFilesError, match="ulimit -n"), disk_errors("write", Path("/x")):
        raise OSError(number, os.strerror(number))


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot flush folders")
def test_every_new_folder_s_entry_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(durable, "flush_folder", flushed.append)
    make_folder(tmp_path / "a" / "b" / "c")
    assert flushed == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    make_folder(tmp_path / "a" / "b" / "c")
    assert len(flushed) == 3


def test_a_folder_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryError, match="a part of that path is a file"):
        make_folder(tmp_path / "file" / "folder")


def test_early_flush_waits_for_enough_bytes_and_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(durable, "EARLY_FLUSH_BYTES", 10)
    monkeypatch.setattr(os, "fsync", flushed.append)
    early = BackgroundFlush(3)
    for count in (9, 1, 9):
        early.wrote(count)
    early.join()
    assert flushed == [3]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be told to begin")
def test_the_disk_begins_with_a_short_file_as_soon_as_there_is_enough_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[tuple[int, int, int]] = []
    monkeypatch.setattr(durable, "BEGIN_FLUSH_BYTES", 10)
    monkeypatch.setattr(os, "posix_fadvise", lambda *told: begun.append(told[:3]))
    ahead = HintedFlush(3, 5)
    for count in (9, 1, 9, 2):
        ahead.wrote(count)
    ahead.join()
    assert begun == [(3, 5, 10), (3, 15, 11)]


def test_a_file_system_that_knows_no_beginning_is_flushed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", refuse, raising=False)
    durable.begin_flush(3, 0, 10)


def test_only_a_long_file_is_flushed_in_a_thread() -> None:
    assert isinstance(flush_ahead(3, 0, durable.EARLY_FLUSH_BYTES), HintedFlush)
    assert isinstance(flush_ahead(3, 0, durable.EARLY_FLUSH_BYTES + 1), BackgroundFlush)
