"""When the demo has seen enough: all ended, only the dead are awaited, or those left can never finish."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from p2pfl import events
from p2pfl.demo import watch
from p2pfl.demo.control import Command, DemoLength
from p2pfl.demo.director import Director, Plan
from p2pfl.demo.screen import Screen
from p2pfl.demo.watch import DemoWatcher
from p2pfl.events import Published
from p2pfl.runtime.observing.publish import EventFile
from tests.support.records import SPEC, digest

NAMES = ("ada", "ben", "cleo", "dan")
STARTED = events.Started("ada", "a" * 52, "demo", "127.0.0.1:5", "/data", 0.3)
JOINED = events.RunJoined(digest("run"), "joined", 0, SPEC, NAMES)
ENDED = events.RunEnded(digest("run"), 1, digest("model"), {"accuracy": 0.9, "loss": 0.1})


class ScriptedNode:
    """Writes its events when it is started, and then has ended with *code* (None: goes on)."""

    def __init__(self, name: str, folder: Path, code: int | None, what: tuple[events.AnyEvent, ...]) -> None:
        from p2pfl.runtime.observing.follow import EventFollower

        self.name = name
        self.data_dir = folder / "data" / name
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

    def kill(self) -> None:
        self._code = -9

    def start(self, options: list[str]) -> None:
        if self.options:
            self._code = None
        self.options = list(options)
        file = EventFile(str(self._path))
        for number, event in enumerate(self.events, 1):
            file.write(Published(number, float(number), event))
        file.close()


class ScriptedControl:
    """Wants what a test puts into `wanted`, at the next look."""

    def __init__(self) -> None:
        self.wanted: list[Command] = []
        self.told: list[events.AnyEvent | DemoLength] = []

    def commands(self) -> list[Command]:
        wanted, self.wanted = self.wanted, []
        return wanted

    def report(self, event: events.Notice | DemoLength) -> None:
        self.told.append(event)


class ScriptedShow:
    """A terminal UI that is open for as many looks as there are *steps*, and does one at each."""

    def __init__(self, *steps: Callable[[], None], code: int = 0) -> None:
        self.opened_on: Path | None = None
        self.is_closed = False
        self.exit_code = code
        self._steps = list(steps)

    @property
    def is_running(self) -> bool:
        if self._steps:
            self._steps.pop(0)()
            return True
        return False

    def start(self, data_dir: Path) -> None:
        self.opened_on = data_dir

    async def close(self) -> None:
        self.is_closed = True


class Watched:
    """A watch over scripted nodes: *codes* by node, each with the same events."""

    def __init__(self, folder: Path, *codes: int | None, what: tuple[events.AnyEvent, ...]) -> None:
        self.nodes = [
            ScriptedNode(name, folder, code, what) for name, code in zip(NAMES, codes, strict=False)
        ]
        self.stream = io.StringIO()
        self.screen = Screen(Console(file=self.stream, width=200), is_live=False)
        self.control = ScriptedControl()
        self.completions = 0
        self.watch = self.watch_with(None)

    def watch_with(self, show: ScriptedShow | None) -> DemoWatcher:
        return DemoWatcher(self.nodes, self.screen, self.control, show, self._complete)  # type: ignore[arg-type]

    def _complete(self) -> None:
        self.completions += 1


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
    monkeypatch.setattr(watch, "START_SECONDS", 0.0)
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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass between two looks."""
    monkeypatch.setattr(watch, "POLL_SECONDS", 0)


async def test_with_the_terminal_ui_nodes_stay_until_it_is_closed(tmp_path: Path, quick: None) -> None:
    seen = Watched(tmp_path, None, None, None, what=(STARTED, JOINED, ENDED))
    seen.nodes[1].events = (JOINED, events.Notice("warning", "so says ben"), ENDED)
    printed: list[str] = []
    show = ScriptedShow(lambda: None, lambda: printed.append(seen.stream.getvalue()))
    assert await seen.watch_with(show).run([]) == ""
    assert show.opened_on == tmp_path / "data" / "ada"
    assert show.is_closed
    assert all("--stay" in node.options for node in seen.nodes)
    assert "so says ben" not in printed[0], "the terminal is the terminal UI's"
    assert "so says ben" in seen.stream.getvalue(), "what was kept back is printed"
    assert seen.completions == 1


async def test_without_the_terminal_ui_nodes_end_by_themselves(tmp_path: Path) -> None:
    seen = Watched(tmp_path, 0, 0, 0, what=(STARTED, JOINED, ENDED))
    await seen.watch.run([])
    assert not any("--stay" in node.options for node in seen.nodes)


async def test_a_node_can_be_killed_and_started_again(tmp_path: Path, quick: None) -> None:
    seen = Watched(tmp_path, None, None, None, what=(STARTED, JOINED, ENDED))
    ada, ben, _ = seen.nodes

    def want(do: str, name: str) -> Callable[[], None]:
        return lambda: seen.control.wanted.append(Command(do, name))  # type: ignore[arg-type]

    complete: list[bool] = []

    def look() -> None:
        complete.append("ada" in watcher.story.complete)

    show = ScriptedShow(want("kill", "ada"), look, want("start", "ada"), look, look)
    watcher = seen.watch_with(show)
    assert await watcher.run([]) == ""
    assert watcher.dead == {}
    assert complete == [True, False, True], "it has to say anew that it has the final model"
    assert ada.is_running
    assert ada.options == [
        *[word for word in ben.options if "--peers" not in word],
        "--peers=127.0.0.1:5,127.0.0.1:5",
    ]
    told = [one.text for one in seen.control.told if isinstance(one, events.Notice)]
    killed, started = told.index("ada was killed by SIGKILL"), told.index("ada is started again")
    assert "2 of 3 nodes are left and 2 are needed" in told[killed + 1]
    assert "gets from the others what it has missed" in told[started + 1]


async def test_an_endless_demo_is_told_to_stop_when_the_screen_is_closed(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Watched(tmp_path, None, None, None, what=(STARTED, JOINED))
    stopped: list[object] = []

    async def stop(target: object, what: str) -> None:
        stopped.append((target, what))
        for node in seen.nodes:
            node._code = 0

    monkeypatch.setattr(watch, "command", stop)
    monkeypatch.setattr(watch, "find_target", lambda *, data_dir: data_dir.name)
    watcher = DemoWatcher(
        seen.nodes,  # type: ignore[arg-type]
        Screen(Console(file=io.StringIO()), is_live=False),
        seen.control,  # type: ignore[arg-type]
        ScriptedShow(lambda: None),  # type: ignore[arg-type]
        director=Director(Plan(NAMES[:3], is_endless=True)),
    )
    await watcher.run([])
    assert stopped == [("ada", "stop")]
    assert [one for one in seen.control.told if isinstance(one, DemoLength)] == [DemoLength(0)]


@pytest.mark.parametrize(
    ("do", "name", "words"),
    [
        ("start", "ben", "ben is running: there is nothing to start"),
        ("kill", "zoe", "zoe is no node of this demo: there is nothing to kill"),
    ],
)
async def test_what_cannot_be_done_is_said(
    tmp_path: Path, quick: None, do: str, name: str, words: str
) -> None:
    seen = Watched(tmp_path, None, None, None, what=(STARTED, JOINED, ENDED))
    show = ScriptedShow(lambda: seen.control.wanted.append(Command(do, name)), lambda: None)  # type: ignore[arg-type]
    await seen.watch_with(show).run([])
    assert [one for one in seen.control.told if getattr(one, "level", "") == "warning"] == [
        events.Notice("warning", words)
    ]


async def test_a_lost_run_is_said_when_the_terminal_ui_is_closed(tmp_path: Path, quick: None) -> None:
    seen = Watched(tmp_path, None, -9, -9, None, what=(STARTED, JOINED))
    show = ScriptedShow(*[lambda: None] * 5)
    assert await seen.watch_with(show).run([]) == "2 of 4 members are left, 3 needed"
    assert show.is_closed


async def test_a_terminal_ui_that_fails_does_not_end_the_demo(tmp_path: Path, quick: None) -> None:
    seen = Watched(tmp_path, None, None, None, what=(STARTED, JOINED, ENDED))
    assert await seen.watch_with(ScriptedShow(code=70)).run([]) == ""
    assert "! the terminal UI ended with exit code 70; the demo goes on without it" in seen.stream.getvalue()
