from __future__ import annotations

import logging
import time

import pytest

from p2pfl.cards import MAX_COLUMNS
from p2pfl.errors import TaskError
from p2pfl.learning.tables.text import Progress, checked_names


def test_names_are_taken_without_spaces_around_them() -> None:
    assert checked_names([" age", "sex "], "t.csv", "line 1") == ("age", "sex")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ([], "t.csv has no names of columns in line 1"),
        (["", " "], "t.csv has no names of columns in line 1"),
        (["", "age"], r"Column 1 of t.csv has no name in line 1: .*index=False"),
        (["age", "sex", "age"], "t.csv has two columns 'age' in line 1"),
        (["a" * 129], "The name of column 1 of t.csv has 129 characters in line 1, and 128 are possible"),
        ([f"x{place}" for place in range(MAX_COLUMNS + 2)], "has 2002 columns, and 2001 are possible"),
    ],
)
def test_names_that_cannot_be_used_are_refused(header: list[str], reason: str) -> None:
    with pytest.raises(TaskError, match=reason):
        checked_names(header, "t.csv", "line 1")


def test_progress_is_told_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress("big.csv", 400, lambda: 100)
    with caplog.at_level(logging.INFO):
        for now[0], rows in ((104.0, 10), (105.5, 12_345), (106.0, 20_000), (111.0, 30_000)):
            progress.tell(rows)
    assert caplog.messages == ["reading big.csv: 25 %, 12,345 rows", "reading big.csv: 25 %, 30,000 rows"]
