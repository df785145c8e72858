"""A demo's folder goes with it, and what a killed demo left goes with the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.demo import folder
from p2pfl.demo.folder import LOCK_FILE, PREFIX, SAVED_FOLDER, folder_for, remove_abandoned, save_place
from p2pfl.store.directory import DataDirectory


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


def left_behind(place: Path, name: str = "x") -> Path:
    """Make the folder of a demo that was killed."""
    folder = place / f"{PREFIX}{name}"
    folder.mkdir()
    (folder / LOCK_FILE).touch()
    return folder


def test_the_folder_of_a_demo_goes_with_it(temporary: Path) -> None:
    with folder_for(None) as folder:
        assert folder.is_dir()
        assert folder.parent == temporary
    assert not folder.exists()


def test_a_folder_the_user_named_stays(tmp_path: Path) -> None:
    with folder_for(tmp_path / "mine") as folder:
        folder.mkdir()
    assert folder == tmp_path / "mine"
    assert folder.is_dir()


def test_what_a_killed_demo_left_goes_with_the_next(temporary: Path) -> None:
    folder = left_behind(temporary)
    with folder_for(None):
        assert not folder.exists()


def test_a_demo_that_runs_keeps_its_folder(temporary: Path) -> None:
    with folder_for(None) as folder:
        remove_abandoned(temporary)
        assert folder.is_dir()


def test_a_folder_in_which_a_node_still_runs_stays(temporary: Path) -> None:
    folder = left_behind(temporary)
    with DataDirectory(folder / "node-1").open():
        remove_abandoned(temporary)
        assert folder.is_dir()
    remove_abandoned(temporary)
    assert not folder.exists()


def test_what_is_no_folder_of_a_demo_stays(temporary: Path) -> None:
    other = temporary / f"{PREFIX}without-lock"
    other.mkdir()
    link = temporary / f"{PREFIX}link"
    link.symlink_to(left_behind(temporary.parent))
    remove_abandoned(temporary)
    assert other.is_dir()
    assert (link / LOCK_FILE).exists()


def test_models_are_saved_where_they_outlive_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert save_place() == tmp_path / SAVED_FOLDER
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr(folder, "user_data", lambda name: tmp_path / "home" / name)
    assert save_place() == tmp_path / "home" / SAVED_FOLDER
