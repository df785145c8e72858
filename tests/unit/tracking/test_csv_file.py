from __future__ import annotations

import csv
from pathlib import Path

import pytest

from p2pfl.errors import UserError
from p2pfl.tracking.csv_file import COLUMNS, CsvTracker
from p2pfl.tracking.measures import Measurement
from p2pfl.tracking.tracker import TrackedRun
from tests.support.records import SPEC

RUN = TrackedRun("ab" * 32, "ada", SPEC)
VALUES = [Measurement(3, "accuracy", "", 0.5), Measurement(3, "seconds", "ben", 1 / 3)]


def write(path: Path) -> None:
    tracker = CsvTracker(path)
    tracker.begin(RUN)
    tracker.write(1700000000.25, VALUES)
    tracker.close()


def test_each_value_is_a_line_and_a_second_start_appends(tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    write(path)
    write(path)
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    time = "2023-11-14T22:13:20.250+00:00"
    assert rows == 2 * [
        [time, RUN.id, "3", "", "accuracy", "0.5"],
        [time, RUN.id, "3", "ben", "seconds", "0.333333333"],
    ]


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("name,age\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"has other columns than time,run.*name a new file"):
        CsvTracker(path)
    assert path.read_text(encoding="utf-8") == "name,age\n"


def test_a_file_that_is_no_text_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be written: it is no text"):
        CsvTracker(path)


def test_a_file_in_no_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be written: No such file or directory\. Name another one"):
        CsvTracker(tmp_path / "nowhere" / "values.csv")


def test_names_stay_on_their_line(tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    tracker = CsvTracker(path)
    tracker.begin(RUN)
    tracker.write(0.0, [Measurement(1, "a\nb", "c,d", 1.0)])
    with path.open(encoding="utf-8", newline="") as file:
        assert [row[3:5] for row in csv.reader(file)] == [["node", "name"], ["c,d", "a?b"]]
