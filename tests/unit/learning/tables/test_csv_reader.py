from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from p2pfl.errors import TaskError
from p2pfl.learning.tables import csv_reader
from p2pfl.learning.tables.csv_reader import read_csv


def read(
    folder: Path, content: bytes, name: str = "t.csv"
) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[int]]:
    """Return names, rows and lines of the file with *content*."""
    (folder / name).write_bytes(content)
    with (folder / name).open("rb") as file:
        text = read_csv(file, name)
        pieces = list(text.pieces)
    rows = [row for piece in pieces for row in zip(*piece.cells, strict=True)]
    return text.names, rows, [line for piece in pieces for line in piece.lines]


TEXT = "city,price\nZürich,3\nOrléans,4\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        TEXT.encode("cp1252"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace(",", ";").encode(),
        TEXT.replace(",", "\t").encode(),
        TEXT.replace(",", ", ").encode(),
        TEXT.rstrip().encode(),
        TEXT.encode() + b"\n\n",
        TEXT.replace("Zürich", '"Zürich"').encode(),
    ],
)
def test_separators_and_encodings_are_recognised(tmp_path: Path, content: bytes) -> None:
    names, rows, _ = read(tmp_path, content)
    assert names == ("city", "price")
    assert rows == [("Zürich", "3"), ("Orléans", "4")]


def test_bytes_of_windows_far_behind_the_start_are_decoded_too(tmp_path: Path) -> None:
    content = b"city,price\n" + b"Bern,1\n" * 20_000 + "Zürich,3\n".encode("cp1252")
    assert read(tmp_path, content)[1][-1] == ("Zürich", "3")


def test_a_character_across_the_border_of_the_sample_is_one(tmp_path: Path) -> None:
    start = "city,price\n"
    content = (start + "a" * (csv_reader.SAMPLE_BYTES - len(start) - 1) + "ü,3\n").encode()
    assert read(tmp_path, content)[1][0][0].endswith("aü")


def test_a_packed_file_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, gzip.compress(TEXT.encode()), "t.csv.gz")[1][0] == ("Zürich", "3")


def test_decimal_commas_do_not_make_the_comma_a_separator(tmp_path: Path) -> None:
    names, rows, _ = read(tmp_path, b"a;b;c\n1,5;2,5;3,5\n1,5;2,5;3,5\n")
    assert (names, rows[0]) == (("a", "b", "c"), ("1,5", "2,5", "3,5"))


def test_quoted_cells_hold_separators_and_line_breaks_and_lines_are_those_of_the_file(tmp_path: Path) -> None:
    _, rows, lines = read(tmp_path, b'a,b\n"1\n2,3",x\n\n4,"say ""hi"""\n')
    assert rows == [("1\n2,3", "x"), ("4", 'say "hi"')]
    assert lines == [3, 5]


def test_a_long_file_comes_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_reader, "PIECE_CELLS", 6)
    (tmp_path / "t.csv").write_bytes(b"a,b\n" + b"1,2\n" * 7)
    with (tmp_path / "t.csv").open("rb") as file:
        assert [len(piece.lines) for piece in read_csv(file, "t.csv").pieces] == [3, 3, 1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a,b\n1,2\n\n1,2,3\n4,5\n", "Line 4 of t.csv has 3 cells, and line 1 names 2 columns"),
        (b'a,b\n"1\n",2\n1\n', "Line 4 of t.csv has 1 cells"),
        (
            b'a,b\n1,2\n1,"' + b"x" * 200_000,
            "t.csv cannot be read after line 2: field larger .*; is a quote not closed?",
        ),
        (b"\n\n", "t.csv has no names of columns in line 1"),
        (b"PK\x03\x04abcd", "t.csv is an Excel file or another archive: save the table as CSV"),
        (b"PAR1abcd", "give it the ending .parquet"),
        (bytes(range(256)) * 8, "t.csv is not text: it holds NUL bytes"),
        (
            "a,b\n1,2".encode("utf-16") + b"\0",
            "t.csv cannot be read after line 1: its text is cut or damaged",
        ),
        (b"a,a\n1,2", "two columns 'a' in line 1"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_the_line(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(TaskError, match=reason):
        read(tmp_path, content)


def test_names_may_hold_another_separator(tmp_path: Path) -> None:
    assert read(tmp_path, b"price, in EUR;city\n3;Bern\n4;Rome\n")[0] == ("price, in EUR", "city")


def test_a_stream_is_not_read_as_a_whole(tmp_path: Path) -> None:
    class Counting(io.BytesIO):
        taken = 0

        def fileno(self) -> int:
            return file.fileno()

        def read(self, size: int | None = -1, /) -> bytes:
            found = super().read(size)
            self.taken += len(found)
            return found

        read1 = read

    content = b"a,b\n" + b"1,2\n" * 1_000_000
    with (tmp_path / "t.csv").open("wb+") as file:
        stream = Counting(content)
        next(read_csv(stream, "t.csv").pieces)
    assert 0 < stream.taken < len(content) / 4
