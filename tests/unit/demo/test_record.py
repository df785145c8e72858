from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from p2pfl.demo.control import REPORTS_FILE, DemoReport, LocalOnlyModel
from p2pfl.demo.record import check_place, write_recording
from p2pfl.errors import UserError
from p2pfl.events import Notice
from p2pfl.runtime.observing.publish import as_json, earlier_file
from tests.support.recordings import finished

EVENTS = finished()
BEGIN, END = EVENTS[0].time, EVENTS[-1].time


def test_the_node_and_the_demo_are_in_one_file_in_the_order_of_time(tmp_path: Path) -> None:
    events = tmp_path / "node-1.events.jsonl"
    lines = [as_json(one) for one in EVENTS]
    earlier_file(events).write_bytes(b"\n".join(lines[:20]) + b"\n")
    events.write_bytes(b"\n".join(lines[20:]) + b'\n{"seq": 99, "ti')
    killed = DemoReport((BEGIN + END) / 2, Notice("warning", "node-2 was killed by SIGKILL"))
    alone = DemoReport(END + 1.0, LocalOnlyModel("node-1", 300, 0.75))
    told = [msgspec.json.encode(one) for one in (killed, alone)]
    (tmp_path / REPORTS_FILE).write_bytes(b"\n".join(told) + b"\nnothing\n")
    assert write_recording(tmp_path / "r.jsonl", events, tmp_path, 0.0) == len(EVENTS) + 2
    written = (tmp_path / "r.jsonl").read_bytes().splitlines()
    assert written[-1] == told[1]
    assert 0 < written.index(told[0]) < len(EVENTS)
    assert [line for line in written if line not in told] == lines


def test_what_an_earlier_demo_in_the_folder_wrote_is_left_out(tmp_path: Path) -> None:
    events = tmp_path / "node-1.events.jsonl"
    events.write_bytes(b"".join(as_json(one) + b"\n" for one in EVENTS))
    since = EVENTS[10].time
    count = write_recording(tmp_path / "r.jsonl", events, tmp_path, since)
    assert count == sum(one.time >= since for one in EVENTS) < len(EVENTS)


def test_where_nothing_was_reported_the_recording_is_empty(tmp_path: Path) -> None:
    assert write_recording(tmp_path / "r.jsonl", tmp_path / "none", tmp_path, 0.0) == 0


def test_a_place_that_cannot_be_written_is_said_before_the_demo(tmp_path: Path) -> None:
    assert check_place(tmp_path / "r.jsonl") == tmp_path / "r.jsonl"
    with pytest.raises(UserError, match="is a folder: name a file"):
        check_place(tmp_path)
    with pytest.raises(UserError, match="is no folder to write to"):
        check_place(tmp_path / "no" / "r.jsonl")
    with pytest.raises(UserError, match="cannot be written: Is a directory"):
        write_recording(tmp_path, tmp_path / "none", tmp_path, 0.0)
