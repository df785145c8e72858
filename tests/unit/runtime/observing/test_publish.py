"""Events are numbered, dated, given to every sink, and written as lines of JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from p2pfl import events
from p2pfl.errors import UserError
from p2pfl.events import Published
from p2pfl.runtime.observing import publish
from p2pfl.runtime.observing.follow import parse_line
from p2pfl.runtime.observing.publish import EventFile, Publisher, as_json, earlier_file
from tests.support.records import SPEC

NOTICE = events.Notice("info", "a sentence")


def test_every_sink_gets_every_event_numbered_and_dated_in_order() -> None:
    clock = iter((10.0, 11.5))
    publisher = Publisher(lambda: next(clock))
    one: list[Published] = []
    two: list[Published] = []
    publisher.add(one.append)
    publisher.add(two.append)
    publisher.publish(NOTICE)
    publisher.publish(events.QuorumBack(3, 2, 3))
    assert one == [Published(1, 10.0, NOTICE), Published(2, 11.5, events.QuorumBack(3, 2, 3), 3)]
    assert two == one


def test_a_sink_that_fails_holds_up_nobody_and_is_told_to_the_log_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: Published) -> None:
        raise UnicodeEncodeError("ascii", "★", 0, 1, "no such character")

    publisher = Publisher(lambda: 1.0)
    got: list[Published] = []
    publisher.add(broken)
    publisher.add(got.append)
    publisher.publish(NOTICE)
    publisher.publish(NOTICE)
    assert [published.seq for published in got] == [1, 2]
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "an event could not be processed"
    ]


def test_an_event_becomes_one_flat_mapping_with_its_kind() -> None:
    elected = events.Elected(3, 2, "ada", "a" * 52, 2)
    assert json.loads(as_json(Published(7, 1.5, elected))) == {
        "seq": 7,
        "time": 1.5,
        "event": "elected",
        "round": 3,
        "attempt": 2,
        "aggregator": "ada",
        "node": "a" * 52,
        "votes": 2,
        "kind": "train",
    }


def test_an_events_file_is_appended_to_and_readable_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"earlier": true}\n', encoding="utf-8")
    file = EventFile(str(path))
    file.write(Published(1, 2.0, NOTICE))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    file.close()
    assert lines == [
        {"earlier": True},
        {"seq": 1, "time": 2.0, "event": "notice", "level": "info", "text": "a sentence"},
    ]


def test_an_events_file_that_cannot_be_written_is_refused_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "events.jsonl"
    with pytest.raises(
        UserError, match=r"missing/events\.jsonl cannot be written: .*Choose another --events"
    ):
        EventFile(str(path))


def test_a_long_events_file_is_turned_over_and_one_earlier_one_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file = EventFile(str(path), max_bytes=300)
    sizes = []
    for number in range(1, 41):
        file.write(Published(number, 2.0, NOTICE))
        sizes.append(sum(one.stat().st_size for one in tmp_path.iterdir()))
    file.close()
    assert {one.name for one in tmp_path.iterdir()} == {"events.jsonl", "events.jsonl.1"}
    assert max(sizes) <= 2 * (300 + 100)
    kept = earlier_file(path).read_text().splitlines() + path.read_text().splitlines()
    numbers = [json.loads(line)["seq"] for line in kept]
    assert numbers == list(range(numbers[0], 41)), "in order, none missing between"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_ends_the_events_file_and_not_the_node(caplog: pytest.LogCaptureFixture) -> None:
    file = EventFile("/dev/full")
    file.write(Published(1, 2.0, NOTICE))
    file.write(Published(2, 2.0, NOTICE))
    file.close()
    assert len(caplog.records) == 1
    assert "/dev/full cannot be written any more" in caplog.text


def test_events_are_published_with_the_training_round_they_are_about() -> None:
    publisher = Publisher(lambda: 1.0)
    told: list[Published] = []
    publisher.add(told.append)
    publisher.publish(events.RunJoined("1" * 64, "resumed", 61, SPEC, ("ada",), trained=60))
    publisher.publish(events.Elected(62, 1, "ada", "a" * 52, 2))
    assert [one.training_round for one in told] == [60, 61]
    fields = json.loads(as_json(told[1]))
    assert (fields["round"], fields["training_round"]) == (62, 61)
    assert parse_line(as_json(told[1])) == told[1]


def test_a_named_pipe_that_nobody_reads_holds_up_no_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(publish, "PATIENCE_SECONDS", 0.01)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    file = EventFile(str(path))
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        for number in range(10_000):
            file.write(Published(number, 2.0, NOTICE))
        first = json.loads(reader.readline())
    file.close()
    assert first["seq"] == 0
    [told] = caplog.messages
    assert "nobody reads it" in told


def test_nothing_is_published_after_the_end() -> None:
    publisher = Publisher(lambda: 1.0)
    told: list[Published] = []
    publisher.add(told.append)
    publisher.publish(events.Ended(0, "the run is complete"))
    publisher.publish(events.Notice("info", "too late"))
    assert [one.event for one in told] == [events.Ended(0, "the run is complete")]
