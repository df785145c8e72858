"""A checksum for each row of the journal, so that bits lost on disk are noticed at the next start.

SQLite has checksums in its log only, so a changed bit in a table changes a vote or a record unnoticed.
Triggers keep the checksum of every row in a table of its own, in the same transaction: every statement that
writes a row also writes its checksum. The triggers are generated from the tables, so new tables and columns
are covered too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from blake3 import blake3

CHECKSUM_BYTES = 8
"""Length of a checksum: it detects accidents, not attacks."""

_TABLE = """
CREATE TABLE checksums (
    holder TEXT NOT NULL,
    row INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (holder, row)
) WITHOUT ROWID;
"""

_TRIGGERS = """
CREATE TRIGGER {table}_inserted AFTER INSERT ON {table} BEGIN
    INSERT INTO checksums VALUES ('{table}', NEW.rowid, row_checksum('{table}', {new}));
END;
CREATE TRIGGER {table}_updated AFTER UPDATE ON {table} BEGIN
    DELETE FROM checksums WHERE holder = '{table}' AND row = OLD.rowid;
    INSERT INTO checksums VALUES ('{table}', NEW.rowid, row_checksum('{table}', {new}));
END;
CREATE TRIGGER {table}_deleted AFTER DELETE ON {table} BEGIN
    DELETE FROM checksums WHERE holder = '{table}' AND row = OLD.rowid;
END;
"""

_encode = msgspec.msgpack.Encoder().encode


class CorruptRow(NamedTuple):
    """A row that does not match its checksum, or that has none, or a checksum whose row is missing."""

    table: str
    row: int


def _checksum(*values: str | int | float | bytes | None) -> bytes:
    """Return the checksum of a table's name and a row's values."""
    return blake3(_encode(values)).digest(CHECKSUM_BYTES)


def prepare(connection: sqlite3.Connection) -> None:
    """Let *connection* compute checksums; without them it can read, but neither write nor verify."""
    connection.create_function("row_checksum", -1, _checksum, deterministic=True)
    # Without this, replacing a row deletes the old one without its trigger.
    connection.execute("PRAGMA recursive_triggers = ON")


def tables_with_checksums(tables: str) -> str:
    """Return *tables*, statements that create tables, followed by those that keep checksums of the rows."""
    scratch = sqlite3.connect(":memory:")
    try:
        scratch.executescript(tables)
        triggers = "".join(
            _TRIGGERS.format(table=table, new=_columns(scratch, table, "NEW")) for table in _tables(scratch)
        )
    finally:
        scratch.close()
    return tables + _TABLE + triggers


def differs(connection: sqlite3.Connection, statements: str) -> bool:
    """Whether the tables, indices and triggers in *connection* differ from those that *statements* create."""
    scratch = sqlite3.connect(":memory:")
    try:
        prepare(scratch)
        scratch.executescript(statements)
        return _made(scratch) != _made(connection)
    finally:
        scratch.close()


def corrupt_rows(connection: sqlite3.Connection) -> Iterator[CorruptRow]:
    """Yield the corrupt rows; reads every row."""
    for table in _tables(connection):
        values = _columns(connection, table, "held")
        statement = (
            f"SELECT held.rowid FROM {table} AS held LEFT JOIN checksums "  # noqa: S608 - our own names
            f"ON holder = ?1 AND row = held.rowid WHERE value IS NOT row_checksum(?1, {values}) "
            "UNION ALL SELECT row FROM checksums "
            f"WHERE holder = ?1 AND row NOT IN (SELECT rowid FROM {table})"
        )
        for (row,) in connection.execute(statement, (table,)):
            yield CorruptRow(table, row)


def drop(connection: sqlite3.Connection, row: CorruptRow) -> None:
    """Delete a corrupt row and its checksum."""
    connection.execute(f"DELETE FROM {row.table} WHERE rowid = ?", (row.row,))  # noqa: S608 - our own name
    connection.execute("DELETE FROM checksums WHERE holder = ? AND row = ?", row)


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
        "AND name != 'checksums' ORDER BY name"
    )
    return [name for (name,) in rows]


def _columns(connection: sqlite3.Connection, table: str, of: str) -> str:
    rows = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    return ", ".join(f"{of}.{name}" for (name,) in rows)


def _made(connection: sqlite3.Connection) -> list[tuple[str, str, str | None]]:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name")
    return [(kind, name, sql) for kind, name, sql in rows]
