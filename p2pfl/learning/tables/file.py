"""Opens the file of a table, of any kind that can be read: CSV, packed or not, and Parquet."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pfl.errors import TaskError
from p2pfl.learning.choice import TABLE_SUFFIXES
from p2pfl.learning.tables.csv_reader import read_csv
from p2pfl.learning.tables.parquet_reader import read_parquet
from p2pfl.learning.tables.text import TableText
from p2pfl.text import one_line


@contextmanager
def open_text(path: Path) -> Iterator[TableText]:
    """Open the table in the file *path*.

    Raises:
        TaskError: the file cannot be read or is no table; also while its pieces are read.
    """
    if path.is_dir():
        raise TaskError(
            f"{path} is a folder; --data with --target needs a file ({', '.join(TABLE_SUFFIXES)})."
        )
    if not path.name.lower().endswith(TABLE_SUFFIXES):
        raise TaskError(
            f"{path.name} is no table that can be read: its name has to end in "
            f"{', '.join(TABLE_SUFFIXES[:-1])} or {TABLE_SUFFIXES[-1]}."
        )
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise TaskError(
                    f"{path.name} is empty (0 bytes): it needs a line of column names, then rows."
                )
            is_parquet = path.name.lower().endswith(".parquet")
            yield read_parquet(file, path.name) if is_parquet else read_csv(file, path.name)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TaskError(f"{path} cannot be read: {one_line(reason)}.") from error
