from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from p2pfl import events
from p2pfl.demo.control import DemoReport, LocalOnlyModel
from p2pfl.errors import UserError
from p2pfl.events import Published
from p2pfl.observe.connection import Connected, Connection
from p2pfl.observe.state import State
from p2pfl.runtime.observing.publish import as_json
from tests.support.recordings import finished, state_of
from tui.source import FASTEST, SLOWEST, Live, Recorded, Replay

RECORDING = finished()
SECONDS = RECORDING[-1].time - RECORDING[0].time


def write(path: Path, recording: list[Published]) -> Path:
    path.write_bytes(b"".join(as_json(item) + b"\n" for item in recording))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "node.events.jsonl", RECORDING)


class Viewer:
    """Looks at a replay by a clock of its own."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.items: list[Recorded] = []
        self.begun = 0
        self.now = 1000.0

    def look(self, after: float = 0.0) -> int:
        """Look again *after* seconds; return how many events are there."""
        self.now += after
        self.replay.play(self.now, self.items.append, self._begin)
        return len(self.items)

    def _begin(self) -> None:
        self.begun += 1
        self.items.clear()


def due(seconds: float) -> int:
    """How many events of the recording happened in its first *seconds*."""
    return sum(item.time <= RECORDING[0].time + seconds for item in RECORDING)


def test_events_come_when_their_time_has_come(path: Path) -> None:
    viewer = Viewer(Replay(path))
    assert viewer.look() == due(0.0) == 1
    assert viewer.look(30.0) == due(30.0)
    assert viewer.look(60.0) == due(90.0)
    assert viewer.look(SECONDS) == len(RECORDING)
    assert (viewer.items, viewer.begun) == (RECORDING, 1)
    assert viewer.replay.position == 1.0


def test_speed_multiplies_time_within_bounds(path: Path) -> None:
    replay = Replay(path, speed=10.0)
    viewer = Viewer(replay)
    viewer.look()
    assert viewer.look(3.0) == due(30.0)
    replay.change_speed(1e9)
    assert replay.speed == FASTEST
    replay.change_speed(1e-9)
    assert replay.speed == SLOWEST == Replay(path, speed=0.0).speed


def test_time_stands_still_while_it_is_held(path: Path) -> None:
    replay = Replay(path)
    viewer = Viewer(replay)
    viewer.look()
    replay.paused = True
    assert viewer.look(100.0) == 1
    assert replay.text.endswith("held")
    replay.paused = False
    assert viewer.look(30.0) == due(30.0)


def test_going_forward_gives_out_what_was_skipped(path: Path) -> None:
    replay = Replay(path)
    viewer = Viewer(replay)
    viewer.look()
    replay.seek(0.5)
    assert viewer.look() == due(0.5 * SECONDS)
    assert viewer.begun == 1
    assert replay.position == pytest.approx(0.5)


def test_going_back_begins_anew(path: Path) -> None:
    replay = Replay(path)
    viewer = Viewer(replay)
    replay.seek(1.0)
    viewer.look()
    replay.seek(0.25)
    assert viewer.look() == due(0.25 * SECONDS)
    assert viewer.begun == 2


@pytest.mark.parametrize(("position", "shown"), [(-3.0, 0.0), (7.0, 1.0)])
def test_there_is_nothing_before_the_beginning_or_after_the_end(
    path: Path, position: float, shown: float
) -> None:
    replay = Replay(path)
    replay.seek(position)
    assert replay.position == shown


def test_any_way_to_a_moment_shows_the_same(path: Path) -> None:
    replay = Replay(path)
    viewer = Viewer(replay)
    for position in (0.3, 0.9, 0.1, 0.7):
        replay.seek(position)
        viewer.look()
    reached = state_of([item for item in viewer.items if isinstance(item, Published)])
    straight = state_of(RECORDING[: due(0.7 * SECONDS)])
    assert reached.peers == straight.peers
    assert list(reached.log) == list(straight.log)


def test_ages_are_counted_to_the_moment_that_is_shown(path: Path) -> None:
    replay = Replay(path)
    viewer = Viewer(replay)
    viewer.look()
    viewer.look(12.0)
    assert replay.now == pytest.approx(RECORDING[0].time + 12.0)


def test_a_clock_that_was_set_back_does_not_mix_what_happened(tmp_path: Path) -> None:
    recording = [replace(item, time=item.time - 3600) if item.seq > 50 else item for item in RECORDING]
    replay = Replay(write(tmp_path / "r.jsonl", recording))
    replay.seek(1.0)
    viewer = Viewer(replay)
    viewer.look()
    assert [item.seq for item in viewer.items if isinstance(item, Published)] == [i.seq for i in RECORDING]


def test_one_moment_alone_is_a_recording(tmp_path: Path) -> None:
    replay = Replay(write(tmp_path / "r.jsonl", RECORDING[:1]))
    assert Viewer(replay).look() == 1
    assert replay.position == 1.0


def test_damaged_lines_are_left_out_and_counted(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"seq": 99, "time": 1.0, "event": "of a later version"}\n{"seq": 1, "ti')
    replay = Replay(path)
    assert (len(replay.items), replay.damaged) == (len(RECORDING), 2)


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\xff\x00" * 1000, b'{"seq": 1}\n'])
def test_a_file_that_is_no_recording_says_what_one_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"photo\.jpg holds no events: give a file that `p2pfl node --events"):
        Replay(path)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        Replay(tmp_path / "missing.jsonl")


def test_a_recording_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.source.MAX_RECORDING_BYTES", 1024)
    with pytest.raises(UserError, match="too long to replay"):
        Replay(path)


async def test_a_replay_is_always_connected_and_may_command_nothing(path: Path) -> None:
    told: list[Connection] = []

    class Told(Exception):  # noqa: N818 - ends the run
        pass

    def tell(connection: Connection) -> None:
        told.append(connection)
        raise Told

    with pytest.raises(Told):
        await Replay(path).run(print, tell, print)
    assert isinstance(told[0], Connected)
    assert told[0].greeting.may == ()


def test_a_node_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no data directory"):
        Live(data_dir=tmp_path / "missing")


def test_a_replay_fills_a_state(path: Path) -> None:
    replay, state = Replay(path), State()
    replay.seek(1.0)
    replay.play(0.0, lambda item: state.apply(item) if isinstance(item, Published) else None, lambda: None)
    assert state.phase == "complete"


def test_a_replay_goes_from_round_to_round(path: Path) -> None:
    replay = Replay(path)
    times = list(replay.rounds.values())
    assert len(times) > 5
    assert list(replay.rounds) == sorted(replay.rounds)
    replay.step_round(1)
    assert replay.now == times[0]
    replay.step_round(1)
    assert replay.now == times[1]
    replay.step_round(-1)
    assert replay.now == times[0]
    replay.step_round(-1)
    assert replay.position == 0.0
    replay.seek(1.0)
    replay.step_round(1)
    assert replay.position == 1.0


def test_what_happened_is_marked(path: Path) -> None:
    kinds = {mark.kind for mark in Replay(path).marks}
    assert {"commit", "election", "join"} <= kinds
    assert [mark.time for mark in Replay(path).marks] == sorted(mark.time for mark in Replay(path).marks)


def test_nodes_that_go_when_the_run_is_over_are_not_lost(tmp_path: Path) -> None:
    end = RECORDING[-1].time
    ended = events.RunEnded("a" * 64, 1, "b" * 64, {})
    lost = events.PeerLost("a" * 52, "ada", "it closed the connection")
    extended = events.RunExtended(20, "ada")
    happened: list[events.AnyEvent] = [lost, ended, lost, extended, lost]
    told = [Published(0, end + number, one) for number, one in enumerate(happened)]
    replay = Replay(write(tmp_path / "r.jsonl", told))
    assert [mark.time - end for mark in replay.marks] == [0.0, 4.0]


def test_what_a_demo_reported_is_a_part_of_its_recording(path: Path) -> None:
    end = RECORDING[-1].time
    reports = [
        DemoReport(end + 1.0, events.Notice("warning", "node-2 was killed by SIGKILL")),
        DemoReport(end + 2.0, LocalOnlyModel("node-1", 300, 0.75)),
    ]
    with path.open("ab") as file:
        file.writelines(msgspec.json.encode(report) + b"\n" for report in reports)
    replay = Replay(path)
    assert replay.items[-2:] == reports
    assert replay.damaged == 0
    assert [mark.kind for mark in replay.marks if mark.time > end] == ["loss"]
