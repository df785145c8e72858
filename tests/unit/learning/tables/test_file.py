from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from p2pfl.errors import TaskError
from p2pfl.learning.tables.file import open_text


def test_a_table_is_opened_by_the_end_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "t.TSV").write_text("a\tb\n1\t2\n")
    with open_text(tmp_path / "t.TSV") as text:
        assert (text.names, text.separator) == (("a", "b"), "\t")
        assert [piece.cells for piece in text.pieces] == [[("1",), ("2",)]]


def test_a_file_that_cannot_be_read_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    (tmp_path / "bad.csv.gz").write_bytes(b"a,b\n1,2\n")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 99)[:-9])
    for name, reason in [
        ("empty.csv", r"empty.csv is empty \(0 bytes\): it needs a line of column names"),
        ("t.xlsx", "has to end in .csv, .csv.gz, .tsv, .tsv.gz or .parquet"),
        ("bad.csv.gz", "bad.csv.gz cannot be read: Not a gzipped file"),
        ("cut.csv.gz", "cut.csv.gz cannot be read: Compressed file ended"),
        ("none.csv", "none.csv cannot be read: No such file or directory"),
        ("", "is a folder"),
    ]:
        with pytest.raises(TaskError, match=reason), open_text(tmp_path / name) as text:
            list(text.pieces)
