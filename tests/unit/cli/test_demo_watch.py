"""When the demo has seen enough: all ended, only the dead are awaited, or those left can never finish."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from p2pfl import events
from p2pfl.cli import demo_watch
from p2pfl.cli.demo_screen import Screen
from p2pfl.cli.demo_watch import Watch
from p2pfl.events import Published
from p2pfl.runtime.publish import EventFile
from tests.support.records import SPEC, digest

NAMES = ("ada", "ben", "cleo", "dan")
STARTED = events.Started("ada", "a" * 52, "demo", "127.0.0.1:5", "/data", 0.3)
JOINED = events.RunJoined(digest("run"), "joined", 0, SPEC, NAMES)
ENDED = events.RunEnded(digest("run"), 1, digest("model"), 0.9, 0.1)


class ScriptedNode:
    """Writes its events when it is started, and then has ended with *code* (None: goes on)."""

    def __init__(self, name: str, folder: Path, code: int | None, what: tuple[events.AnyEvent, ...]) -> None:
        from p2pfl.runtime.follow import EventFollower

        self.name = name
        self.options: list[str] = []
        self._path = folder / name
        self._code = code
        self.events = what
        self.follower = EventFollower(self._path)

    @property
    def exit_code(self) -> int | None:
        return self._code if self.options else None

    @property
    def is_running(self) -> bool:
        return bool(self.options) and self._code is None

    def start(self, options: list[str]) -> None:
        self.options = list(options)
        file = EventFile(str(self._path))
        for number, event in enumerate(self.events, 1):
            file.write(Published(number, float(number), event))
        file.close()


class Watched:
    """A watch over scripted nodes: *codes* by node, each with the same events."""

    def __init__(self, folder: Path, *codes: int | None, what: tuple[events.AnyEvent, ...]) -> None:
        self.nodes = [
            ScriptedNode(name, folder, code, what) for name, code in zip(NAMES, codes, strict=False)
        ]
        self.stream = io.StringIO()
        screen = Screen(Console(file=self.stream, width=200), is_live=False)
        self.watch = Watch(self.nodes, screen)  # type: ignore[arg-type]


async def test_all_nodes_learn_the_first_ones_address_and_how_many_they_are(tmp_path: Path) -> None:
    seen = Watched(tmp_path, 0, 0, 0, 0, what=(STARTED, JOINED, ENDED))
    assert await seen.watch.run(["--rounds=1"]) == ""
    first, *others = seen.nodes
    assert {"--min-nodes=4", "--rounds=1", "--listen=127.0.0.1:0", "--device=cpu"} <= set(first.options)
    for node in others:
        assert node.options == [*first.options, "--peers=127.0.0.1:5"]
    assert seen.watch.dead == {}


async def test_the_dead_are_named_and_the_others_are_not_kept_waiting_for_them(tmp_path: Path) -> None:
    seen = Watched(tmp_path, None, -9, None, None, what=(STARTED, JOINED, ENDED))
    assert await seen.watch.run([]) == ""
    assert seen.watch.dead == {"ben": -9}
    assert "✗ ben was killed by SIGKILL\n" in seen.stream.getvalue()


async def test_too_few_members_left_end_the_demo(tmp_path: Path) -> None:
    seen = Watched(tmp_path, None, -9, -9, None, what=(STARTED, JOINED))
    assert await seen.watch.run([]) == "2 of 4 members are left, 3 needed"


async def test_a_node_that_dies_before_the_run_ends_the_demo(tmp_path: Path) -> None:
    seen = Watched(tmp_path, None, 2, None, None, what=(STARTED,))
    assert await seen.watch.run([]) == "ben ended before the run began"
    assert "✗ ben ended with exit code 2\n" in seen.stream.getvalue()


async def test_a_first_node_that_ends_at_once_ends_the_demo_before_the_others_start(tmp_path: Path) -> None:
    seen = Watched(tmp_path, 2, 0, 0, 0, what=())
    assert await seen.watch.run([]) == "ada ended before the run began"
    assert [bool(node.options) for node in seen.nodes] == [True, False, False, False]


async def test_a_first_node_that_never_listens_ends_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_watch, "START_SECONDS", 0.0)
    seen = Watched(tmp_path, None, 0, 0, 0, what=())
    assert await seen.watch.run([]) == "ada does not listen after 0 s"


async def test_events_of_several_nodes_are_told_in_the_order_of_their_times(tmp_path: Path) -> None:
    seen = Watched(tmp_path, 0, 0, 0, what=(STARTED, JOINED, ENDED))
    _, ben, cleo = seen.nodes
    ben.events = (STARTED, JOINED, events.Notice("warning", "what came third"))
    cleo.events = (events.Notice("warning", "what came first"), ENDED)
    await seen.watch.run([])
    text = seen.stream.getvalue()
    assert text.count("run complete") == 1
    assert 0 < text.index("cleo: what came first") < text.index("ben: what came third")
