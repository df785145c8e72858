"""Parquet files, with a stand-in for pyarrow that has as much of its interface as is used: it is an extra."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import BinaryIO

import pytest

from p2pfl.errors import TaskError
from p2pfl.learning.tables import parquet_reader
from p2pfl.learning.tables.parquet_reader import read_parquet


class ArrowInvalid(ValueError):  # noqa: N818  its name in pyarrow
    pass


class Column:
    def __init__(self, values: list[object]) -> None:
        self.values = values
        self.type = "bool" if isinstance(values[0], bool) else "other"

    def cast(self, kind: str) -> Column:
        assert kind == "string"
        if any(isinstance(value, list) for value in self.values):
            raise ArrowInvalid("Unsupported cast from list<> to string")
        return Column([None if value is None else json.dumps(value).strip('"') for value in self.values])

    def fill_null(self, text: str) -> Column:
        return Column([text if value is None else value for value in self.values])

    def to_pylist(self) -> list[object]:
        return self.values


class ParquetFile:
    """Reads columns that are written as JSON."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            self.columns: dict[str, list[object]] = json.load(file)
        except ValueError:
            raise ArrowInvalid("Parquet magic bytes not found") from None
        rows = len(next(iter(self.columns.values())))
        self.schema_arrow = SimpleNamespace(names=list(self.columns))
        self.metadata = SimpleNamespace(num_rows=rows)

    def iter_batches(self, batch_size: int) -> Iterator[SimpleNamespace]:
        for start in range(0, self.metadata.num_rows, batch_size):
            parts = [values[start : start + batch_size] for values in self.columns.values()]
            yield SimpleNamespace(columns=[Column(part) for part in parts], num_rows=len(parts[0]))


@pytest.fixture
def arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = ModuleType("pyarrow"), ModuleType("pyarrow.parquet")
    vars(package).update(
        string=lambda: "string", ArrowInvalid=ArrowInvalid, ArrowNotImplementedError=ArrowInvalid
    )
    vars(module).update(ParquetFile=ParquetFile)
    monkeypatch.setitem(sys.modules, "pyarrow", package)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", module)


def read(folder: Path, columns: object) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[int]]:
    path = folder / "t.parquet"
    path.write_text(json.dumps(columns))
    with path.open("rb") as file:
        text = read_parquet(file, path.name)
        pieces = list(text.pieces)
    rows = [row for piece in pieces for row in zip(*piece.cells, strict=True)]
    return text.names, rows, [line for piece in pieces for line in piece.lines]


@pytest.mark.usefixtures("arrow")
def test_cells_are_read_as_text_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_reader, "PIECE_CELLS", 6)
    names, rows, lines = read(
        tmp_path, {"age": [1.5, None, 3], "city": ["Bern", "Rome", None], "ill": [True, None, False]}
    )
    assert names == ("age", "city", "ill")
    assert rows == [("1.5", "Bern", "True"), ("", "Rome", ""), ("3", "", "False")]
    assert lines == [1, 2, 3]


@pytest.mark.usefixtures("arrow")
def test_a_damaged_file_and_columns_of_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"t.parquet cannot be read after row 0: Unsupported cast"):
        read(tmp_path, {"age": [[1, 2]]})
    (tmp_path / "t.parquet").write_text("no")
    with (
        (tmp_path / "t.parquet").open("rb") as file,
        pytest.raises(TaskError, match="or it is damaged: Parquet magic"),
    ):
        read_parquet(file, "t.parquet")


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        TaskError, match=r"needs pyarrow: pip install 'p2pfl-lan\[parquet\]', or save it as CSV"
    ):
        read(tmp_path, {"age": [1]})
