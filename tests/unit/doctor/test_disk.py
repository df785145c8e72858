from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.doctor.disk import check_disk, data_dir_of
from p2pfl.store.directory import DataDirectory
from p2pfl.store.journal import Journal
from tests.support.federation import make_federation
from tests.support.records import node


def test_a_data_directory_of_a_running_node_is_in_use(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory, Journal.open(directory.journal_path, node("ada")):
        other = check_disk(tmp_path)
        own = check_disk(tmp_path, is_running=True)
    assert other.level == "FAIL"
    assert "in use by process" in other.text
    assert own.level == "ok"
    assert "in use by this device's node" in own.text
    assert "ready" in check_disk(tmp_path).text


def test_a_journal_that_was_found_to_be_a_copy_is_told(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory, Journal.open(directory.journal_path, node("ada")) as journal:
        journal.refuse("it is a copy. Start with --new-journal")
    finding = check_disk(tmp_path)
    assert finding.level == "FAIL"
    assert "it is a copy. Start with --new-journal" in finding.text


def test_a_damaged_journal_is_found(tmp_path: Path) -> None:
    DataDirectory(tmp_path).journal_path.write_bytes(b"no database, but long enough to be looked at" * 100)
    finding = check_disk(tmp_path)
    assert finding.level == "FAIL"
    assert "is damaged" in finding.text


@pytest.mark.parametrize(("free", "level"), [(10**6, "FAIL"), (10**9, "warn"), (10**10, "ok")])
def test_the_free_space_is_judged(tmp_path: Path, free: int, level: str) -> None:
    assert check_disk(tmp_path / "new", free=free).level == level


def test_a_folder_that_may_not_be_looked_into_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfl.store.directory.obstacle", lambda path: "this user may not look into it")
    finding = check_disk(tmp_path / "data")
    assert finding.level == "FAIL"
    assert "cannot be used: this user may not look into it; choose another --data-dir" in finding.text


def test_a_path_that_the_node_would_refuse_is_refused_here_too(tmp_path: Path) -> None:
    finding = check_disk(tmp_path / ("a" * 240) / ("b" * 240))
    assert finding.level == "FAIL"
    assert "too long" in finding.text


def test_a_path_through_a_file_is_no_place_for_data(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = check_disk(tmp_path / "file" / "data")
    assert finding.level == "FAIL"
    assert "choose another --data-dir" in finding.text


def test_a_folder_that_this_user_may_not_write_to_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("p2pfl.doctor.disk.tempfile.TemporaryFile", refuse)
    finding = check_disk(tmp_path / "data")
    assert finding.text == f"{tmp_path} cannot be written to (Permission denied)"
    assert finding.advice == "choose another --data-dir, or give this user the right to write there"


def test_the_data_directory_is_the_one_given_or_the_usual_one(tmp_path: Path) -> None:
    ant = make_federation(tmp_path, "ant")["ant"]
    assert data_dir_of(tmp_path, ant) == tmp_path
    assert data_dir_of(None, None) is None
    usual = data_dir_of(None, ant)
    assert isinstance(usual, Path)
    assert usual.name == "ant"
