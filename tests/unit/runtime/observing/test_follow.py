"""An events file is read as it grows: every event once, nothing of a line that is not finished."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from p2pfl import events
from p2pfl.events import Published
from p2pfl.runtime.observing.follow import EventFollower, parse_line
from p2pfl.runtime.observing.publish import EventFile
from tests.support.records import SPEC

EVENTS: tuple[events.AnyEvent, ...] = (
    events.Notice("warning", 'words with "quotes"\nand lines'),
    events.RunJoined("a" * 64, "founded", 0, SPEC, ("ada", "ben")),
    events.Committed(
        run="a" * 64,
        round=1,
        kind="train",
        attempt=1,
        aggregator="ada",
        digest="d" * 64,
        record="e" * 64,
        members=("ada",),
        updates=(events.CountedUpdate("ada", 100, 7, 0.5, 0.25),),
        left_out=(("ben", "silent"),),
        trained=1,
        rounds=3,
        then="go",
        note="",
        seconds=0.5,
    ),
)


def published(*kinds: events.AnyEvent) -> list[Published]:
    return [Published(number, 2.5, event) for number, event in enumerate(kinds, 1)]


def write(path: Path, what: list[Published]) -> None:
    file = EventFile(str(path))
    for one in what:
        file.write(one)
    file.close()


def test_events_come_back_as_they_were_written_each_once(tmp_path: Path) -> None:
    path = tmp_path / "events"
    follower = EventFollower(path)
    assert follower.read() == []
    write(path, published(*EVENTS))
    assert follower.read() == published(*EVENTS)
    assert follower.read() == []
    write(path, published(EVENTS[0]))
    assert follower.read() == published(EVENTS[0])


@pytest.mark.parametrize("every", [1, 3, 7])
def test_a_file_that_is_turned_over_is_followed_on(tmp_path: Path, every: int) -> None:
    path = tmp_path / "events"
    follower, found = EventFollower(path), []
    file = EventFile(str(path), max_bytes=1000)
    wanted = published(*[events.Notice("info", str(number)) for number in range(60)])
    for number, one in enumerate(wanted):
        file.write(one)
        if number % every == 0:
            found += follower.read()
    file.close()
    found += follower.read() + follower.read()
    assert found == wanted


def test_what_is_there_already_can_be_skipped(tmp_path: Path) -> None:
    path = tmp_path / "events"
    write(path, published(EVENTS[0]))
    follower = EventFollower(path, skip=True)
    write(path, published(EVENTS[2]))
    assert follower.read() == published(EVENTS[2])


def test_a_file_that_grows_byte_by_byte_gives_each_event_when_its_line_is_complete(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole", tmp_path / "events"
    write(whole, published(*EVENTS))
    follower, found, counts = EventFollower(path), [], []
    for byte in whole.read_bytes():
        with path.open("ab") as file:
            file.write(bytes([byte]))
        found += follower.read()
        counts.append((byte == ord("\n"), len(found)))
    assert found == published(*EVENTS)
    complete = 0
    for ends_line, count in counts:
        complete += ends_line
        assert count == complete


def test_a_half_line_of_a_killed_process_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "events"
    path.write_bytes(b'{"seq":1,"time":2.5,"event":"not')
    write(path, published(EVENTS[0], EVENTS[2]))
    assert EventFollower(path).read() == published(EVENTS[0], EVENTS[2])[1:]
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize("line", [b"", b"{}", b'{"seq":1,"time":1.0,"event":"dance"}', b"[1]"])
def test_a_line_that_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        parse_line(line)
