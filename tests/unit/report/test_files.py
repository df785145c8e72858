from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.errors import UserError
from p2pfl.report.figures import history_png
from p2pfl.report.files import report_content, write_report
from p2pfl.report.plot import svg
from p2pfl.report.table import csv_text, jsonl_text
from tests.support.recordings import finished, rows_of

ROWS = rows_of(finished())


def test_the_ending_says_the_form() -> None:
    assert report_content(Path("a.csv"), ROWS) == csv_text(ROWS)
    assert report_content(Path("a.JSONL"), ROWS) == jsonl_text(ROWS)
    assert report_content(Path("a.svg"), ROWS, [0.5]) == svg(ROWS, [0.5])
    assert report_content(Path("a.png"), ROWS, [0.5]) == history_png(ROWS, [0.5])


@pytest.mark.parametrize("name", ["a", "a.txt", "csv"])
def test_another_ending_is_an_error_that_names_those_there_are(name: str) -> None:
    with pytest.raises(UserError, match=r"\.csv, \.jsonl, \.svg and \.png"):
        report_content(Path(name), ROWS)


def test_a_report_is_written_as_it_is_and_replaces_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_report(path, "longer than what follows\r\n")
    write_report(path, "a,ä\r\n")
    assert path.read_bytes() == "a,ä\r\n".encode()
    write_report(path, b"\r\x00")
    assert path.read_bytes() == b"\r\x00"


def test_a_file_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "a.csv"
    with pytest.raises(UserError, match=r"missing/a\.csv cannot be written: No such file"):
        write_report(path, "x")
