"""A recording on the screen: held, faster, sought; and the demo's nodes, killed and started."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from p2pfl.demo.control import COMMANDS_FILE, NODES_FILE, REPORTS_FILE, DemoLength, DemoReport, LocalOnlyModel
from p2pfl.runtime.observing.publish import as_json
from tests.support import recordings
from tests.support.screens import Node, settle, shown, text_of
from tui.control import DemoControl
from tui.source import Replay


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def replay(tmp_path: Path) -> Replay:
    path = tmp_path / "events.jsonl"
    told = recordings.running(rounds=20)
    path.write_bytes(b"".join(as_json(one) + b"\n" for one in told))
    return Replay(path)


async def test_a_replay_is_held_made_faster_and_sought(replay: Replay) -> None:
    clock = Clock()
    async with shown([], (100, 30), source=replay, clock=clock) as (app, pilot, _):
        begin = replay.position
        clock.now += 10.0
        await settle(app, pilot)
        assert replay.position > begin
        await pilot.press("space")
        held = replay.position
        clock.now += 10.0
        await settle(app, pilot)
        assert replay.position == held
        assert "held" in text_of(app)
        await pilot.press("space", "plus", "plus", "minus")
        assert replay.speed == 2.0
        replay.seek(0.95)
        await pilot.press("full_stop", "full_stop", "full_stop")
        await settle(app, pilot)
        assert replay.position == 1.0
        assert app.session.state.trained == 19
        replay.seek(0.52)
        await pilot.press("comma")
        await settle(app, pilot)
        assert 0.49 < replay.position < 0.51
        assert 0 < app.session.state.trained < 12


async def test_of_a_replay_nothing_can_be_commanded(replay: Replay) -> None:
    async with shown([], (100, 30), source=replay, clock=Clock()) as (app, pilot, _):
        replay.seek(1.0)
        await settle(app, pilot)
        keys = text_of(app).splitlines()[-1]
        assert "space hold" in keys
        assert "pause" not in keys
        assert not app.session.may("pause")


async def test_the_bar_shows_the_whole_recording_and_a_click_seeks(replay: Replay) -> None:
    async with shown([], (100, 30), source=replay, clock=Clock()) as (app, pilot, _):
        bar = text_of(app).splitlines()[-2]
        assert "x1" in bar
        assert bar.count("│") > 5
        await pilot.click("#scrub", offset=(60, 0))
        await settle(app, pilot)
        assert 0.5 < replay.position < 0.65
        assert app.session.state.trained > 5
        before = replay.position
        await pilot.click("#scrub", offset=(1, 0))
        await settle(app, pilot)
        assert replay.position == before, "beside the bar"


async def test_keys_go_from_round_to_round_and_to_both_ends(replay: Replay) -> None:
    async with shown([], (100, 30), source=replay, clock=Clock()) as (app, pilot, _):
        await pilot.press("right_square_bracket", "right_square_bracket")
        assert app.session.state.trained == 2
        assert "r2/" in text_of(app).splitlines()[-2]
        await pilot.press("left_square_bracket")
        assert app.session.state.trained == 1
        await pilot.press("end")
        assert replay.position == 1.0
        await pilot.press("home")
        assert replay.position == 0.0
        await pilot.press("5", "end")
        assert replay.position == 0.0, "the log uses these keys itself"
        await pilot.press("question_mark")
        await settle(app, pilot)
        app.screen.query_one("#help").scroll_end(animate=False, immediate=True)
        await settle(app, pilot)
        assert "aggregator elected" in text_of(app)


async def test_a_demo_is_seen_in_its_recording(tmp_path: Path) -> None:
    told = recordings.finished()
    path = tmp_path / "demo.jsonl"
    report = DemoReport(told[-1].time, LocalOnlyModel("node-1", 300, 0.75))
    path.write_bytes(b"".join(as_json(one) + b"\n" for one in told) + msgspec.json.encode(report) + b"\n")
    replay = Replay(path)
    replay.seek(1.0)
    async with shown([], (120, 40), source=replay, clock=Clock()) as (app, _, _):
        assert app.session.state.local_only == {"node-1": 0.75}


async def test_an_endless_demo_shows_no_end_until_it_has_one(demo: DemoControl, tmp_path: Path) -> None:
    def report(rounds: int) -> None:
        with (tmp_path / REPORTS_FILE).open("ab") as file:
            file.write(msgspec.json.encode(DemoReport(1.0, DemoLength(rounds))) + b"\n")

    told = recordings.running()
    async with shown(told, (120, 40), demo=demo) as (app, pilot, _):
        assert "r41/100" in text_of(app).splitlines()[0]
        report(0)
        await settle(app, pilot)
        top = text_of(app).splitlines()[0]
        assert "  r41  " in top
        assert "ETA" not in top, "nobody knows when it ends"
        assert "100" not in text_of(app)
        app.session.reset()  # the node was killed and started again
        for one in told:
            app.session.deliver(one)
        await settle(app, pilot)
        assert "  r41  " in text_of(app).splitlines()[0]
        report(44)
        await settle(app, pilot)
        assert "r41/44" in text_of(app).splitlines()[0]


async def test_a_node_has_no_bar() -> None:
    async with shown(recordings.running(), (100, 30)) as (app, _, _):
        assert not app.screen.query("#scrub")


@pytest.fixture
def demo(tmp_path: Path) -> DemoControl:
    names = ["lab-desktop", "attic-nuc", "macbook-1", "roof-jetson", "shelf-pi5", "west-thinkpad"]
    (tmp_path / NODES_FILE).write_text(
        json.dumps({"nodes": [{"name": name, "data_dir": name} for name in names]})
    )
    return DemoControl(tmp_path)


def asked_for(folder: Path) -> list[dict[str, str]]:
    path = folder / COMMANDS_FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def test_k_kills_the_selected_node_of_a_demo_after_asking(demo: DemoControl, tmp_path: Path) -> None:
    async with shown(recordings.running(), (100, 30), demo=demo) as (app, pilot, _):
        await pilot.press("down", "down", "k")
        await settle(app, pilot)
        assert "Kill macbook-1?" in text_of(app)
        assert "quorum 4" in " ".join(text_of(app).split())
        await pilot.press("enter")
        assert asked_for(tmp_path) == []
        await pilot.press("k", "tab", "enter")
        await settle(app, pilot)
        assert asked_for(tmp_path) == [{"do": "kill", "node": "macbook-1"}]


async def test_k_starts_a_node_that_is_gone(demo: DemoControl, tmp_path: Path) -> None:
    async with shown(recordings.running(), (100, 30), demo=demo) as (app, pilot, _):
        await pilot.press("down", "k")
        await settle(app, pilot)
        assert asked_for(tmp_path) == [{"do": "start", "node": "attic-nuc"}]


async def test_without_a_demo_there_is_no_killing() -> None:
    async with shown(recordings.running(), (100, 30), source=Node()) as (app, pilot, _):
        await pilot.press("down", "k")
        await settle(app, pilot)
        assert "Kill" not in text_of(app)
        assert "kill" not in text_of(app).splitlines()[-1]


async def test_the_line_of_the_recording_leaves_room_for_all_peers_of_a_small_federation(
    replay: Replay,
) -> None:
    async with shown([], source=replay) as (app, pilot, _):
        replay.seek(1.0)
        await settle(app, pilot)
        text = text_of(app)
        assert [name for name in recordings.NAMES if f" {name} " not in text] == []
