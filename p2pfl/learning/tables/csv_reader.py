"""Reads a CSV file as columns of text, whatever its separator and its encoding are.

Both are recognised from the first 64 KB. The first line has to name the columns.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

from p2pfl.errors import TaskError
from p2pfl.learning.tables.text import PIECE_CELLS, Piece, Progress, TableText, checked_names
from p2pfl.text import one_line

SEPARATORS = ",;\t|"
"""In order of preference."""

SAMPLE_BYTES = 65536
"""Bytes at the start of a file from which separator and encoding are recognised."""

SAMPLE_RECORDS = 100

_OTHER_KINDS = {
    b"PK\x03\x04": "an Excel file or another archive: save the table as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file: save the table as CSV",
    b"PAR1": "a Parquet file: give it the ending .parquet",
    b"SQLite format 3": "a database: export the table as CSV",
}
"""First bytes of files that people take for CSV, and the advice."""


def read_csv(file: BinaryIO, name: str) -> TableText:
    """Open the CSV *file* called *name*, which may be packed by gzip.

    Raises:
        TaskError: the file is no CSV file, or it is damaged; also while its pieces are read.
    """
    packed = name.lower().endswith(".gz")
    stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
    sample = stream.read(SAMPLE_BYTES)
    stream.seek(0)
    encoding = _encoding(sample, name)
    errors = "strict" if encoding.startswith("utf-16") else _FALLBACK
    separator = _separator(codecs.getincrementaldecoder(encoding)(errors).decode(sample))
    text = io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline="")
    records = _records(text, separator, name)
    _, header = next(records, (1, []))
    names = checked_names(header, name, "line 1")
    progress = Progress(name, os.fstat(file.fileno()).st_size, file.tell)
    return TableText(names, separator, _pieces(records, names, name, progress))


def _records(text: io.TextIOWrapper, separator: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record that is not a blank line, with the number of its last line."""
    line = 0
    try:
        reader = csv.reader(text, delimiter=separator, skipinitialspace=separator != "\t")
        for record in reader:
            line = reader.line_num
            if record:
                yield line, record
    except csv.Error as error:
        what = one_line(str(error))
        raise TaskError(f"{name} cannot be read after line {line}: {what}; is a quote not closed?") from error
    except UnicodeError as error:
        raise TaskError(f"{name} cannot be read after line {line}: its text is cut or damaged.") from error
    finally:
        with contextlib.suppress(ValueError):  # the file is closed already
            text.detach()  # the file is the caller's to close


def _pieces(
    records: Iterator[tuple[int, list[str]]], names: Sequence[str], name: str, progress: Progress
) -> Iterator[Piece]:
    size, width = max(1, PIECE_CELLS // len(names)), len(names)
    rows: list[list[str]] = []
    lines: list[int] = []
    for line, record in records:
        if len(record) != width:
            raise TaskError(
                f"Line {line} of {name} has {len(record)} cells, and line 1 names {width} columns: correct "
                "the line; a cell that contains the separator or a line break has to be in double quotes."
            )
        rows.append(record)
        lines.append(line)
        if len(rows) == size:
            yield Piece(list(zip(*rows, strict=True)), lines)
            rows, lines = [], []
            progress.tell(line)
    if rows:
        yield Piece(list(zip(*rows, strict=True)), lines)


# --- encoding and separator ---------------------------------------------------------------------------------


def _decode_as_cp1252(error: UnicodeError) -> tuple[str, int]:
    """Decode the bytes that are not UTF-8 as Windows-1252: the error handler of the codecs."""
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


_FALLBACK = "p2pfl-cp1252"
codecs.register_error(_FALLBACK, _decode_as_cp1252)


def _encoding(sample: bytes, name: str) -> str:
    """Return the encoding of a text that starts with *sample*.

    Bytes that are not UTF-8 are decoded as Windows-1252 one by one, so a large file need not be read again if
    the first such byte is at its end.
    """
    for start, advice in _OTHER_KINDS.items():
        if sample.startswith(start):
            raise TaskError(f"{name} is {advice}.")
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" not in sample:
        return "utf-8-sig"
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) < len(sample) // 4 or min(even, odd) > len(sample) // 20:
        raise TaskError(f"{name} is not text: it holds NUL bytes. Save the table as CSV in UTF-8.")
    return "utf-16-le" if odd > even else "utf-16-be"


def _separator(sample: str) -> str:
    """Return the separator with which most records of *sample* have as many cells as the first."""

    def quality(separator: str) -> tuple[bool, float, int]:
        lines = io.StringIO(sample, newline="")
        widths = []
        try:
            for record in csv.reader(lines, delimiter=separator, skipinitialspace=True):
                widths.append(len(record))
                if len(widths) > SAMPLE_RECORDS:
                    break
        except csv.Error:
            return False, 0.0, 0
        widths = widths[:-1] if len(widths) > 2 else widths  # the last one may be cut off
        if not widths:
            return False, 0.0, 0
        return widths[0] > 1, widths.count(widths[0]) / len(widths), widths[0]

    return max(SEPARATORS, key=quality)
