"""Lines as they are written: on a terminal, in the journal, elsewhere."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from p2pfl.line_style import LineStyle, Severity, wants_colours

RED = "\x1b[31m"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "JOURNAL_STREAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_terminal_has_the_time_of_day_and_colours_for_what_matters() -> None:
    style = LineStyle(Terminal())
    assert re.fullmatch(r"\d\d:\d\d:\d\d a line", style.line("a line", at=0.0))
    assert style.line("bad", Severity.ERROR) == f"{RED}bad\x1b[0m"
    assert "\x1b" not in style.line("info")


def test_a_file_has_dates_and_no_colours() -> None:
    text = LineStyle(io.StringIO()).line("bad", Severity.ERROR, at=0.0)
    assert re.fullmatch(r"19\d\d-\d\d-\d\d \d\d:\d\d:\d\d bad", text)


def test_the_journal_has_priorities_on_each_line_and_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with (tmp_path / "journal").open("w") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        style = LineStyle(stream)
        assert style.line("one\ntwo", Severity.WARNING, at=0.0) == "<4>one\n<4>two"
        assert style.line("one") == "<6>one"


@pytest.mark.parametrize(
    ("variables", "on_terminal", "elsewhere"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_the_user_decides_about_colours(
    variables: dict[str, str], on_terminal: bool, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert wants_colours(Terminal()) is on_terminal
    assert wants_colours(io.StringIO()) is elsewhere
