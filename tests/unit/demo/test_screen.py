"""The demo's screen: lines everywhere, a live place only on a terminal, never wider than 80 characters."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from p2pfl import events
from p2pfl.demo.screen import BAR_CELLS, MAX_HELD, Screen, bar, draw_local_only, draw_story
from p2pfl.demo.story import Story
from p2pfl.events import Published
from tests.support.recordings import part_of


def drawn(what: RenderableType, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(what)
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize(("share", "filled"), [(0.0, 0), (0.5, BAR_CELLS // 2), (1.0, BAR_CELLS)])
def test_a_bar_is_filled_by_its_share(share: float, filled: int) -> None:
    [line] = drawn(bar(share))
    assert line == "█" * filled + "░" * (BAR_CELLS - filled) + f" {share:4.0%}"


def test_a_row_for_each_node_fits_80_characters() -> None:
    names = tuple(f"node-{number}" for number in range(1, 33))
    story = Story(names)
    for name in names:
        story.take(name, Published(1, 0.0, events.DataShown(0, 32, part_of(tuple(range(1, 11))))))
        story.take(name, Published(1, 0.0, events.TrainingStarted(1, 0)))
        story.take(name, Published(1, 0.0, events.Elected(1, 1, name, "a" * 52, 17)))
    lines = drawn(draw_story(story))
    assert len(lines) == 2 + len(names)
    assert lines[1] == "no run yet"
    assert lines[2].startswith("★  node-1 ")
    assert lines[2].endswith("0%")


def test_a_lone_training_shows_whose_data_it_uses() -> None:
    [line] = drawn(draw_local_only("node-3", 0.25))
    assert line.strip().startswith("node-3 alone  █████░")


def test_a_line_has_time_mark_and_text_on_one_line_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    Screen(Console(file=stream, width=40), is_live=True).say(("✓", "word " * 20), 0.0)
    assert stream.getvalue()[8:] == " ✓ " + "word " * 20 + "\n"


def test_control_characters_do_not_reach_the_terminal() -> None:
    stream = io.StringIO()
    Screen(Console(file=stream), is_live=True).say(("✓", "a\x1b[31mb[bold]c"), 0.0)
    assert stream.getvalue()[8:] == " ✓ a?[31mb[bold]c\n"


def live_text(*, is_live: bool, terminal: bool) -> str:
    stream = io.StringIO()
    screen = Screen(Console(file=stream, force_terminal=terminal, width=80), is_live=is_live)
    with screen.live():
        screen.show("the live place")
    return stream.getvalue()


def test_the_live_place_is_shown_on_a_terminal() -> None:
    assert "the live place" in live_text(is_live=True, terminal=True)


@pytest.mark.parametrize(("is_live", "terminal"), [(True, False), (False, True)])
def test_elsewhere_or_when_not_wanted_there_is_no_live_place(is_live: bool, terminal: bool) -> None:
    assert live_text(is_live=is_live, terminal=terminal) == ""


def test_while_another_program_has_the_terminal_lines_wait_for_it() -> None:
    stream = io.StringIO()
    screen = Screen(Console(file=stream, force_terminal=True, width=80, color_system=None), is_live=True)
    with screen.held():
        for number in range(MAX_HELD + 1):
            screen.say(("·", f"line {number}"), 0.0)
        screen.show("the live place")
        assert stream.getvalue() == ""
    lines = stream.getvalue().splitlines()
    assert [lines[0][9:], lines[-1][9:], len(lines)] == ["· line 1", f"· line {MAX_HELD}", MAX_HELD]
