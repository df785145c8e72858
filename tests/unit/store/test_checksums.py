from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from p2pfl.store import checksums
from p2pfl.store.checksums import CorruptRow

TABLES = """
CREATE TABLE pets (name TEXT PRIMARY KEY, age INTEGER, weight REAL, picture BLOB);
CREATE TABLE owners (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE);
"""
STATEMENTS = checksums.tables_with_checksums(TABLES)


@pytest.fixture
def shop() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    checksums.prepare(connection)
    connection.executescript(STATEMENTS)
    connection.execute("INSERT INTO pets VALUES ('rex', 3, 4.5, x'0001'), ('tom', NULL, NULL, NULL)")
    connection.execute("INSERT INTO owners (name) VALUES ('ada'), ('ben')")
    yield connection
    connection.close()


def _without_triggers(shop: sqlite3.Connection, statement: str) -> None:
    for (name,) in shop.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        shop.execute(f"DROP TRIGGER {name}")
    shop.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "UPDATE pets SET age = age + 1",
        "UPDATE owners SET number = number + 10",
        "INSERT OR REPLACE INTO pets VALUES ('rex', 4, 5.0, x'')",
        "INSERT INTO pets (name) VALUES ('rex') ON CONFLICT (name) DO UPDATE SET age = 9",
        "INSERT OR IGNORE INTO pets (name) VALUES ('rex')",
        "DELETE FROM pets WHERE name = 'tom'",
        "DELETE FROM owners",
    ],
)
def test_whatever_statement_writes_the_checksums_fit(shop: sqlite3.Connection, statement: str) -> None:
    shop.execute(statement)
    assert list(checksums.corrupt_rows(shop)) == []
    rows = [shop.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("pets", "owners")]
    assert shop.execute("SELECT count(*) FROM checksums").fetchone()[0] == sum(rows)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pets SET name = 'rey' WHERE name = 'rex'",
        "UPDATE pets SET age = 2 WHERE name = 'rex'",
        "UPDATE pets SET weight = 4.25 WHERE name = 'rex'",
        "UPDATE pets SET picture = x'0003' WHERE name = 'rex'",
        "UPDATE pets SET picture = NULL WHERE name = 'rex'",
        "DELETE FROM pets WHERE name = 'rex'",
        "UPDATE checksums SET value = x'00' WHERE holder = 'pets' AND row = 1",
        "DELETE FROM checksums WHERE holder = 'pets' AND row = 1",
    ],
)
def test_a_row_changed_without_its_checksum_is_found_and_can_be_dropped(
    shop: sqlite3.Connection, statement: str
) -> None:
    _without_triggers(shop, statement)
    assert list(checksums.corrupt_rows(shop)) == [CorruptRow("pets", 1)]
    checksums.drop(shop, CorruptRow("pets", 1))
    assert list(checksums.corrupt_rows(shop)) == []
    assert shop.execute("SELECT name FROM pets").fetchall() == [("tom",)]


def test_tables_other_than_they_were_made_are_found(shop: sqlite3.Connection) -> None:
    assert not checksums.differs(shop, STATEMENTS)
    shop.execute("DROP TRIGGER pets_updated")
    assert checksums.differs(shop, STATEMENTS)
