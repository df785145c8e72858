from __future__ import annotations

import http.client
import io
import socket
import sys
import tarfile
import time
import urllib.error
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2pfl.errors import TaskError
from p2pfl.learning import download
from p2pfl.learning.data import DataPlaces, DataSet

THINGS = DataSet("Things", "Things/raw", ("images", "labels"))

Downloader = Callable[[Path], None]


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> list[Downloader]:
    """Replace torchvision with one that has a single data set; return the list of steps its downloader takes."""
    steps: list[Downloader] = []

    def things(root: str, *, download: bool) -> None:
        assert download
        for step in steps:
            step(Path(root))

    stub = SimpleNamespace(datasets=SimpleNamespace(Things=things))
    monkeypatch.setitem(sys.modules, "torchvision", stub)
    return steps


def write_things(root: Path) -> None:
    folder = root / "Things" / "raw"
    folder.mkdir(parents=True)
    for name in ("images", "labels"):
        (folder / name).write_text(name)


def left_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_data_set_that_is_here_is_not_downloaded(tmp_path: Path, torchvision: list[Downloader]) -> None:
    write_things(tmp_path)
    places = DataPlaces(tmp_path, download=True)
    assert [path.name for path in download.obtain("t", THINGS, places)] == ["images", "labels"]


def test_nothing_is_downloaded_without_leave(tmp_path: Path, torchvision: list[Downloader]) -> None:
    torchvision.append(write_things)
    with pytest.raises(TaskError, match="use --download"):
        download.obtain("t", THINGS, DataPlaces(tmp_path))
    assert left_in(tmp_path) == []


def test_a_missing_data_set_is_downloaded_to_where_it_is_looked_for(
    tmp_path: Path, torchvision: list[Downloader]
) -> None:
    torchvision.append(write_things)
    paths = download.obtain("t", THINGS, DataPlaces(tmp_path / "new", download=True))
    assert paths == tuple(tmp_path / "new" / "Things" / "raw" / name for name in ("images", "labels"))
    assert paths[0].read_text() == "images"
    assert left_in(tmp_path) == ["new/Things/raw/images", "new/Things/raw/labels"]


def test_without_a_data_root_it_goes_to_the_users_folder(
    tmp_path: Path, torchvision: list[Downloader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "default_root", lambda: tmp_path / "home")
    monkeypatch.setattr("p2pfl.learning.data.default_root", lambda: tmp_path / "home")
    torchvision.append(write_things)
    assert download.obtain("t", THINGS, DataPlaces(download=True))[0].is_relative_to(tmp_path / "home")


def test_a_part_of_a_set_that_was_there_is_completed(tmp_path: Path, torchvision: list[Downloader]) -> None:
    (tmp_path / "Things" / "raw").mkdir(parents=True)
    (tmp_path / "Things" / "raw" / "images").write_text("old")
    torchvision.append(write_things)
    assert download.obtain("t", THINGS, DataPlaces(tmp_path, download=True))[0].read_text() == "images"


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("no route to host"),
        TimeoutError("timed out"),
        http.client.IncompleteRead(b"half"),
        RuntimeError("Error downloading images:\nTried mirror one\nTried mirror two"),
        zlib.error("bad"),
        tarfile.ReadError("bad"),
        EOFError("bad"),
    ],
)
def test_a_broken_download_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, torchvision: list[Downloader], error: Exception
) -> None:
    def fail(root: Path) -> None:
        raise error

    torchvision += [write_things, fail]
    with pytest.raises(TaskError) as caught:
        download.obtain("t", THINGS, DataPlaces(tmp_path, download=True))
    message = str(caught.value)
    assert message.startswith(
        f"The data of the task 't' could not be downloaded to {tmp_path}; check the network"
    )
    assert message.endswith(").")
    assert " ".join(str(error).split())[:40].removeprefix("<urlopen error ").rstrip(">") in message
    assert "\n" not in message
    assert left_in(tmp_path) == []


def test_a_root_that_cannot_be_made_is_said(tmp_path: Path, torchvision: list[Downloader]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TaskError, match="could not be downloaded"):
        download.fetch("t", THINGS, tmp_path / "file" / "root")


def test_a_silent_server_is_given_up_and_other_sockets_are_as_before(
    tmp_path: Path, torchvision: list[Downloader]
) -> None:
    seen: list[float | None] = []
    torchvision += [lambda root: seen.append(socket.getdefaulttimeout()), write_things]
    download.fetch("t", THINGS, tmp_path)
    assert seen == [download.SILENCE_SECONDS]
    assert socket.getdefaulttimeout() is None


def test_a_progress_bar_becomes_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    sink = io.StringIO()
    throttled = download.ThrottledProgress(sink)  # reads the clock at 0; lines are due at 5 and 10
    for percent in range(12):
        assert throttled.write(f"\r{percent} %|###") == len(f"\r{percent} %|###")
    assert sink.getvalue() == "4 %|###\n9 %|###\n"


def test_bars_drawn_by_a_download_do_not_flood_the_workers_output(
    tmp_path: Path, torchvision: list[Downloader], capsys: pytest.CaptureFixture[str]
) -> None:
    def draw(root: Path) -> None:
        for percent in range(1000):
            sys.stderr.write(f"\r{percent}")
        print("Downloading")

    torchvision += [draw, write_things]
    download.fetch("t", THINGS, tmp_path)
    assert capsys.readouterr() == ("", f"downloading the data of t to {tmp_path}\n")
