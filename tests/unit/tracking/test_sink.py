"""A tracker never stops or delays its node, whatever happens to it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from p2pfl import events
from p2pfl.errors import UserError
from p2pfl.events import AnyEvent, Published
from p2pfl.tracking.measures import Measurement
from p2pfl.tracking.sink import Tracking, tracked
from p2pfl.tracking.targets import TrackTarget
from p2pfl.tracking.tracker import TrackedRun
from tests.support.records import SPEC


class Recorder:
    """A tracker that records its calls, and does what a test wants before each."""

    def __init__(self, before: Callable[[str], None] = lambda _what: None) -> None:
        self.before = before
        self.said: list[object] = []
        self.threads: set[threading.Thread] = set()

    def begin(self, run: TrackedRun, /) -> None:
        self._do("begin", run.label)

    def write(self, time: float, values: Sequence[Measurement], /) -> None:
        self._do("write", time, *(one.round for one in values))

    def close(self) -> None:
        self._do("close")

    def _do(self, *said: object) -> None:
        self.threads.add(threading.current_thread())
        self.before(str(said[0]))
        self.said.append(said)


def joined(run: str = "ab" * 32) -> events.RunJoined:
    return events.RunJoined(run, "founded", 0, SPEC, ("ada",))


def evaluated(number: int) -> tuple[AnyEvent, int]:
    return events.EvaluationFinished(number, {"loss": 1.0}, 3, 1, 1, committed=True), number


def feed(tracking: Tracking, *said: AnyEvent | tuple[AnyEvent, int]) -> None:
    for one in said:
        event, number = one if isinstance(one, tuple) else (one, None)
        tracking.write(Published(1, 7.0, event, number))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_tracker_begins_before_its_first_values_and_again_with_another_run() -> None:
    recorder = Recorder()
    tracking = Tracking(recorder, "csv:x", "ada")
    feed(
        tracking,
        evaluated(9),
        joined(),
        joined(),
        evaluated(1),
        evaluated(2),
        joined("cd" * 32),
        evaluated(1),
    )
    tracking.close()
    assert recorder.said == [
        ("begin", "abababab-ada"),
        ("write", 7.0, 1),
        ("write", 7.0, 2),
        ("begin", "cdcdcdcd-ada"),
        ("write", 7.0, 1),
        ("close",),
    ]
    assert threading.current_thread() not in recorder.threads


def test_a_tracker_that_fails_is_a_warning_once_and_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    failures = 2

    def fail(what: str) -> None:
        nonlocal failures
        if what == "write" and failures:
            failures -= 1
            raise OSError(28, "No space left on device")

    recorder = Recorder(fail)
    tracking = Tracking(recorder, "csv:x", "ada")
    feed(tracking, joined(), evaluated(1), evaluated(2), evaluated(3))
    tracking.close()
    assert recorder.said == [("begin", "abababab-ada"), ("write", 7.0, 3), ("close",)]
    [warning] = warnings_of(caplog)
    assert "csv:x does not work (OSError: [Errno 28] No space left on device); the node goes on" in warning


def test_a_server_that_is_away_at_the_start_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    attempts = []

    def fail(what: str) -> None:
        attempts.append(what)
        if attempts == ["begin"]:
            raise ConnectionError("refused\nby the server")

    recorder = Recorder(fail)
    tracking = Tracking(recorder, "mlflow:x", "ada")
    feed(tracking, joined(), evaluated(1), evaluated(2))
    tracking.close()
    assert recorder.said == [("begin", "abababab-ada"), ("write", 7.0, 2), ("close",)]
    assert "ConnectionError: refused?by the server" in warnings_of(caplog)[0]


def test_a_failure_at_the_end_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    def fail(what: str) -> None:
        raise ValueError(what)

    tracking = Tracking(Recorder(fail), "wandb:x", "ada")
    tracking.close()
    assert "ValueError: close" in warnings_of(caplog)[0]


def test_a_tracker_that_hangs_delays_neither_events_nor_the_end(caplog: pytest.LogCaptureFixture) -> None:
    release, hangs = threading.Event(), threading.Event()

    def hang(_what: str) -> None:
        hangs.set()
        release.wait()

    recorder = Recorder(hang)
    tracking = Tracking(recorder, "wandb:x", "ada", max_waiting=3)
    feed(tracking, joined(), evaluated(1))
    hangs.wait()
    feed(tracking, *(evaluated(number) for number in range(2, 9)))  # four more than the queue has room for
    tracking.close(seconds=0.01)
    assert [message.partition("(")[2].partition(")")[0] for message in warnings_of(caplog)[:1]] == [
        "it is too slow, so values are lost"
    ]
    assert "has not written its last values within 0.01 s" in warnings_of(caplog)[-1]
    assert len(warnings_of(caplog)) == 2
    release.set()
    tracking.close()
    assert [said[2] for said in recorder.said if isinstance(said, tuple) and said[0] == "write"] == [
        1,
        2,
        3,
        4,
    ]


async def test_the_trackers_of_a_node_are_closed_with_it(tmp_path: Path) -> None:
    sinks: list[Callable[[Published], None]] = []
    target = TrackTarget("csv", str(tmp_path / "values.csv"))
    async with tracked([target], "ada", sinks.append):
        [write] = sinks
        write(Published(1, 7.0, joined()))
        write(Published(2, 7.0, *evaluated(1)))
    assert (tmp_path / "values.csv").read_text(encoding="utf-8").endswith(",1,,loss,1\n")


async def test_a_place_that_cannot_be_written_is_refused_before_a_thread_starts(tmp_path: Path) -> None:
    good, bad = (
        TrackTarget("csv", str(tmp_path / "a.csv")),
        TrackTarget("csv", str(tmp_path / "no" / "b.csv")),
    )
    before = threading.active_count()
    with pytest.raises(UserError, match="cannot be written"):
        async with tracked([good, bad], "ada", lambda _sink: None):
            raise AssertionError("not reached")
    assert threading.active_count() == before
