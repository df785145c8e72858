"""Events on a terminal and elsewhere: lines everywhere, a live line only where it can be erased."""

from __future__ import annotations

import io
import re
import time

import pytest

from p2pfl import events
from p2pfl.cli.console import Console
from p2pfl.events import Published

LINE = events.Waiting(1, 3, "1 of 3 nodes are here")
HALF = events.ProgressMade(2, "train", 5, 10)
ERASE = "\r\x1b[2K"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, which a test may set."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def shown(stream: io.StringIO, *what: events.AnyEvent, quiet: bool = False) -> str:
    console = Console(stream, quiet=quiet)
    for number, event in enumerate(what, 1):
        console.write(Published(number, 0.0, event))
    console.close()
    return stream.getvalue()


def test_an_event_is_a_line_with_its_time_and_mark() -> None:
    assert shown(Terminal(), LINE)[8:] == " · waiting: 1 of 3 nodes are here\n"


def test_elsewhere_than_on_a_terminal_the_line_has_a_date() -> None:
    text = shown(io.StringIO(), LINE)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d · waiting: 1 of 3 nodes are here\n", text)


@pytest.mark.parametrize(
    ("event", "colour"),
    [
        (events.Notice("error", "x"), "31"),
        (events.Notice("warning", "x"), "33"),
        (events.RunEnded("id", 1, "d" * 64, {}), "32"),
    ],
)
def test_what_matters_has_a_colour_on_a_terminal(
    event: events.AnyEvent, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert f"\x1b[{colour}m" in shown(Terminal(), event)
    assert "\x1b" not in shown(io.StringIO(), event)


def test_progress_is_drawn_on_a_terminal_and_erased_before_the_next_line() -> None:
    text = shown(Terminal(), HALF, LINE)
    drawing, _, rest = text.partition(ERASE)
    assert "round 2 training [██████████··········]  50%" in drawing
    assert rest.endswith("1 of 3 nodes are here\n")


def test_the_last_progress_is_erased_at_the_end() -> None:
    assert shown(Terminal(), HALF).endswith(ERASE)


def test_progress_is_not_drawn_where_it_could_not_be_erased() -> None:
    assert shown(io.StringIO(), HALF) == ""


def test_progress_is_throttled_but_its_last_report_is_always_drawn(clock: list[float]) -> None:
    often = [events.ProgressMade(2, "train", done, 100) for done in range(1, 101)]
    text = shown(Terminal(), *often)
    assert text.count("training") == 2
    assert "100%" in text


def test_quiet_tells_problems_only() -> None:
    problem = events.Notice("error", "it broke")
    text = shown(io.StringIO(), LINE, HALF, problem, quiet=True)
    assert text[19:] == " ✗ it broke\n"


def test_lines_and_the_live_line_name_the_training_round() -> None:
    stream = Terminal()
    console = Console(stream)
    console.write(Published(1, 0.0, events.Elected(62, 1, "ada", "id", 2), 61))
    console.write(Published(2, 0.0, events.ProgressMade(62, "train", 5, 10), 61))
    console.close()
    assert "round 61: ada is the aggregator" in stream.getvalue()
    assert "round 61 training [" in stream.getvalue()
    assert "62" not in stream.getvalue()[8:]


@pytest.mark.parametrize("quiet", [False, True])
def test_a_line_of_a_script_stands_where_the_live_line_was(quiet: bool) -> None:
    stream = Terminal()
    console = Console(stream, quiet=quiet)
    console.write(Published(1, 0.0, HALF))
    console.show("epoch 1")
    assert stream.getvalue().endswith(f"{ERASE}epoch 1\n") is not quiet
    assert ("epoch" in stream.getvalue()) is not quiet
