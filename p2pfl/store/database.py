"""The SQLite database of the journal: its tables, its schema version, how it is opened, and its errors.

It uses write-ahead logging with `synchronous=FULL`. A transaction is on disk when COMMIT returns (SQLite also
flushes the folder when it creates the log), it needs one flush instead of three, and a reader (`p2pfl
history`) never delays a vote. Each row has a checksum (`p2pfl.store.checksums`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pfl.errors import DataDirectoryError
from p2pfl.paths import holds_file
from p2pfl.store.checksums import CorruptRow, corrupt_rows, differs, prepare, tables_with_checksums
from p2pfl.store.durable import disk_errors, flush_folder

APPLICATION_ID = 0x7032_7066
"""Distinguishes a journal from other SQLite files: "p2pf" in ASCII."""

SCHEMA_VERSION = 3
"""Raised whenever `TABLES` changes meaning; kept in the file as `user_version`."""

BUSY_SECONDS = 10.0
"""How long a statement waits for another process before it fails. Only a copy or backup tool locks a journal
for so long."""

MAX_PATH_BYTES = 512 - len("-journal")
"""Maximum length of a journal's path from the root, with symbolic links resolved: SQLite's limit minus the
suffix it appends. SQLite resolves every path itself, so a relative path or a link does not help."""

TABLES = """
CREATE TABLE self (                     -- one row
    node TEXT NOT NULL,
    journal TEXT NOT NULL,
    incarnation INTEGER NOT NULL,              -- starts so far
    votes INTEGER NOT NULL,             -- promises and acceptances so far
    refused TEXT NOT NULL               -- why no node may start with this journal any more; mostly empty
);
CREATE TABLE runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,   -- in the order this journal came to them
    run TEXT NOT NULL UNIQUE,
    genesis BLOB NOT NULL,
    closed INTEGER NOT NULL DEFAULT 0,
    resumed INTEGER NOT NULL DEFAULT -1         -- the last round whose pause was lifted
);
CREATE TABLE votes (                    -- of the highest round voted in: lower ones are decided
    run TEXT PRIMARY KEY,
    round INTEGER NOT NULL,
    promised BLOB NOT NULL,             -- ballot
    accepted_ballot BLOB,
    accepted BLOB                       -- record
);
CREATE TABLE updates (                  -- the last one this node trained
    run TEXT PRIMARY KEY,
    round INTEGER NOT NULL,
    previous TEXT NOT NULL,
    entry BLOB NOT NULL
);
CREATE TABLE commits (
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    record TEXT NOT NULL,               -- digest
    model TEXT NOT NULL,
    kind TEXT NOT NULL,
    entry BLOB NOT NULL,                -- commit
    seconds REAL NOT NULL,
    score REAL,                         -- of the model, once the next record committed its evaluations: the
                                        -- mean of the primary metric, negative where less is better
    PRIMARY KEY (run, round)
);
CREATE INDEX commits_by_score ON commits (run, score);
CREATE TABLE conflicts (                -- commits that contradict those above: never to happen
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    entry BLOB NOT NULL,
    UNIQUE (run, round, entry)
);
CREATE TABLE reports (
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    node TEXT NOT NULL,
    examples INTEGER NOT NULL,
    score REAL NOT NULL,                -- primary metric times examples, negative where less is better
    evaluation BLOB NOT NULL,
    PRIMARY KEY (run, round, node)
);
CREATE TABLE incarnations (                    -- the last that each other journal of the federation has shown
    node TEXT NOT NULL,
    journal TEXT NOT NULL,
    incarnation INTEGER NOT NULL,              -- 0 where only votes of it were seen
    votes INTEGER NOT NULL,
    claim BLOB,                         -- of its last start, as it signed it
    vote BLOB,                          -- its newest one, as it signed it
    PRIMARY KEY (node, journal)
);
"""


_STATEMENTS = tables_with_checksums(TABLES)

_REFUSALS = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}
"""Error codes of a disk or a lock that refuses. Other codes, while the whole file is read, come from
damage."""


class DamagedJournalError(DataDirectoryError):
    """The content of a journal is damaged."""


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors inside into a DataDirectoryError about the journal at *path*.

    Raises:
        DataDirectoryError: the disk refused, or the file is damaged.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise  # bugs of ours, no damage of the file
    except sqlite3.OperationalError as error:
        raise DataDirectoryError(
            f"the journal {path} cannot be used: {error}; check that the disk is not full, that this user "
            "may write to the folder, and that no other program holds the file"
        ) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise damaged(path, str(error)) from error


def check_length(path: Path) -> None:
    """Check that SQLite can open a journal at *path*.

    Raises:
        DataDirectoryError: it is too long.
    """
    length = max(len(os.fsencode(path.absolute())), len(os.fsencode(os.path.realpath(path))))
    if length > MAX_PATH_BYTES:
        raise DataDirectoryError(
            f"the path of the data directory {path.parent} is too long: its journal's has {length} bytes (a "
            f"character outside ASCII has two to four), and the database takes {MAX_PATH_BYTES}; choose a "
            "shorter --data-dir"
        )


def damaged(path: Path, why: str) -> DamagedJournalError:
    """Return the error for a damaged journal at *path*."""
    return DamagedJournalError(
        f"the journal {path} is damaged ({why}); its votes can no longer be trusted: start this node with "
        "--new-journal, it then joins again as a new member (and look at this disk's health)"
    )


def find_corrupt_rows(connection: sqlite3.Connection, path: Path) -> list[CorruptRow]:
    """Read the whole journal at *path*; return its corrupt rows.

    Raises:
        DataDirectoryError: it is damaged in its structure, or the disk refused.
    """
    with database_errors(path):
        try:
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise damaged(path, " ".join(str(verdict).split()))
            if differs(connection, _STATEMENTS):
                raise damaged(path, "its tables are not those it was made with")
            return list(corrupt_rows(connection))
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _REFUSALS:
                raise
            raise damaged(path, str(error)) from error


def open_writable(path: Path) -> sqlite3.Connection:
    """Open the database at *path* for the node; create it where missing.

    Raises:
        DataDirectoryError: it is damaged, not a journal, of a newer version, or the disk refused.
    """
    check_length(path)
    with database_errors(path):
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.execute("PRAGMA synchronous = FULL")
            # On macOS only this flush reaches the medium; elsewhere it does nothing.
            connection.execute("PRAGMA fullfsync = ON")
            connection.execute("PRAGMA checkpoint_fullfsync = ON")
            prepare(connection)
            if _is_empty(connection):
                connection.executescript(
                    f"BEGIN IMMEDIATE; {_STATEMENTS} PRAGMA application_id = {APPLICATION_ID};"
                    f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                )
                with disk_errors("keep the journal", path):
                    flush_folder(path.parent)
            _check_version(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open the database at *path* read-only, also while a node writes to it.

    Raises:
        DataDirectoryError: it is missing, damaged, not a journal, or of a newer version.
    """
    if not holds_file(path):
        raise DataDirectoryError(
            f"there is no journal at {path}: no node has run with this data directory; give the one it used"
        )
    check_length(path)
    with database_errors(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            prepare(connection)
            _check_version(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Whether the file is new, or a crash came before its first transaction ended."""
    (count,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(count == 0)


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise DataDirectoryError(f"{path} is not a journal of p2pfl; choose another data directory")
    if version != SCHEMA_VERSION:
        raise DataDirectoryError(
            f"the journal {path} has schema version {version}, this p2pfl knows version {SCHEMA_VERSION}; "
            "use the version of p2pfl that wrote it, or choose another data directory"
        )
