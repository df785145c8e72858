from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfl.errors import DataDirectoryError
from p2pfl.store.database import MAX_PATH_BYTES, database_errors, open_read_only, open_writable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.sqlite"
    open_writable(path).close()
    return path


def test_a_returned_transaction_is_flushed_and_readers_do_not_wait(path: Path) -> None:
    connection = open_writable(path)
    settings = [
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
    ]
    connection.execute("BEGIN IMMEDIATE")
    reader = open_read_only(path)
    count = reader.execute("SELECT count(*) FROM runs").fetchone()
    connection.close()
    reader.close()
    assert settings == ["wal", 2]  # 2 is FULL
    assert count == (0,)


def test_a_name_with_special_characters_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a ?mode=rwc#% b.sqlite"
    open_writable(path).close()
    open_read_only(path).close()
    assert path.is_file()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            sqlite3.OperationalError("database or disk is full"),
            "cannot be used: database or disk is full; check",
        ),
        (
            sqlite3.DatabaseError("malformed"),
            r"is damaged \(malformed\); .*start this node with --new-journal",
        ),
    ],
)
def test_sqlite_s_errors_become_sentences(error: sqlite3.Error, told: str) -> None:
    with pytest.raises(DataDirectoryError, match=told), database_errors(Path("/x/journal.sqlite")):
        raise error


def test_programming_errors_are_not_hidden(path: Path) -> None:
    connection = open_writable(path)
    with pytest.raises(sqlite3.ProgrammingError), database_errors(path):
        connection.execute("SELECT ?", ())
    connection.close()


def long_path(folder: Path, length: int) -> Path:
    """Return a journal's path of *length* bytes below *folder*, in folders that exist."""
    rest = length - len(str(folder)) - len("/journal.sqlite") - 1
    first, second = "a" * (rest // 2), "b" * (rest - rest // 2 - 1)
    path = folder / first / second / "journal.sqlite"
    path.parent.mkdir(parents=True)
    assert len(str(path)) == length
    return path


def test_a_path_is_taken_up_to_the_limit_of_the_database(tmp_path: Path) -> None:
    path = long_path(tmp_path, MAX_PATH_BYTES)
    open_writable(path).close()
    open_read_only(path).close()


@pytest.mark.parametrize("opened", [open_writable, open_read_only])
def test_a_longer_path_is_said_to_be_too_long(tmp_path: Path, opened: Callable[[Path], object]) -> None:
    path = long_path(tmp_path, MAX_PATH_BYTES + 1)
    path.touch()
    with pytest.raises(
        DataDirectoryError, match=r"too long: its journal's has 505 bytes .* shorter --data-dir"
    ):
        opened(path)


def test_a_link_does_not_make_a_path_shorter(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(long_path(tmp_path, MAX_PATH_BYTES + 1).parent)
    with pytest.raises(DataDirectoryError, match="too long"):
        open_writable(tmp_path / "link" / "journal.sqlite")
