"""Every state at several sizes, as text; `P2PFL_GOLDEN=write pytest tests/tui/test_screens.py` writes them anew."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2pfl.observe.connection import NodeEnded, Retrying
from tests.support import recordings
from tests.support.screens import GOLDEN, settle, shown, text_of

SIZES = [(60, 20), (80, 24), (120, 40), (200, 50)]

STATES = [
    "starting", "waiting", "checklist", "mismatch", "running", "no_quorum", "paused", "finished", "ended", "hostile",
]  # fmt: skip


def check(name: str, text: str) -> None:
    """Compare *text* with the golden screen *name*, or make it that."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("P2PFL_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", STATES)
async def test_the_overview(state: str, size: tuple[int, ...]) -> None:
    local_only = {"shelf-pi5": 0.805, "macbook-1": 0.84} if state == "finished" else {}
    async with shown(getattr(recordings, state)(), size, local_only=local_only) as (app, _, _):
        check(f"{state}-{size[0]}x{size[1]}", text_of(app))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_lost_connection_leaves_what_was_known(size: tuple[int, ...]) -> None:
    async with shown(recordings.running(), size) as (app, pilot, _):
        app.set_connection(Retrying(3, app.session.now() + 4.0, "connection reset by peer"))
        await settle(app, pilot)
        assert app.screen.has_class("-stale")
        check(f"disconnected-{size[0]}x{size[1]}", text_of(app))


async def test_nobody_becomes_late_for_want_of_news() -> None:
    told = recordings.running()
    hours_later = told[-1].time + 7200.0
    async with shown(told, clock=lambda: hours_later) as (app, pilot, _):
        app.set_connection(Retrying(3, hours_later + 4.0, "connection reset by peer"))
        await settle(app, pilot)
        text = text_of(app)
        assert "train 71%" in text
        assert "late" not in text
        assert "data of 2h ago" in text


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("peers", ["2"]),
        ("rounds", ["3"]),
        ("network", ["4"]),
        ("log", ["5"]),
        ("peer", ["2", "down", "down", "enter"]),
        ("round", ["3", "down", "enter"]),
        ("help", ["question_mark"]),
    ],
)
@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_other_screens(name: str, keys: list[str], size: tuple[int, ...]) -> None:
    async with shown(recordings.running(), size) as (app, pilot, _):
        await pilot.press(*keys)
        await settle(app, pilot)
        check(f"{name}-{size[0]}x{size[1]}", text_of(app))


@pytest.mark.parametrize("size", [(150, 40), (200, 50)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_peers_with_details_beside_them(size: tuple[int, ...]) -> None:
    async with shown(recordings.running(), size) as (app, pilot, _):
        await pilot.press("2", "down", "down", "down", "down")
        await settle(app, pilot)
        await settle(app, pilot)
        check(f"peers-{size[0]}x{size[1]}", text_of(app))


@pytest.mark.parametrize(
    ("size", "keys"),
    [((80, 24), ["A"]), ((120, 40), ["A", "down", "down", "down", "a", *["left"] * 12, "z"])],
    ids=["80x24", "120x40"],
)
async def test_a_chart_tells_what_happened(size: tuple[int, ...], keys: list[str]) -> None:
    async with shown(recordings.eventful(), size) as (app, pilot, _):
        await pilot.press(*keys)
        await settle(app, pilot)
        await settle(app, pilot)
        check(f"chart-{size[0]}x{size[1]}", text_of(app))


async def test_a_large_network_screen_has_the_links_the_round_and_the_log_of_the_nodes() -> None:
    async with shown(recordings.running(), (200, 50)) as (app, pilot, _):
        await pilot.press("4")
        await settle(app, pilot)
        await settle(app, pilot)
        check("network-200x50", text_of(app))


async def test_before_the_run_the_network_screen_has_no_panel_of_a_round() -> None:
    async with shown(recordings.checklist(), (120, 40)) as (app, pilot, _):
        await pilot.press("4")
        await settle(app, pilot)
        text = text_of(app)
        assert "192.168.1.77:9000" in text
        assert "no round is open" not in text


async def test_after_the_run_the_network_screen_has_its_result() -> None:
    async with shown(recordings.finished(), (120, 40), local_only={"shelf-pi5": 0.8}) as (app, pilot, _):
        await pilot.press("4")
        await settle(app, pilot)
        text = text_of(app)
        assert "─ Result ─" in text
        assert "mean alone" in text
        assert "6 devices trained" in text
        assert "no round is open" not in text


@pytest.mark.parametrize("size", [(39, 9), (45, 12)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_small_terminal_shows_what_matters_most(size: tuple[int, ...]) -> None:
    async with shown(recordings.running(), size) as (app, _, _):
        check(f"small-{size[0]}x{size[1]}", text_of(app))


async def test_with_ascii_symbols_nothing_else_is_shown() -> None:
    async with shown(recordings.running(), (120, 40), ascii_only=True) as (app, _, _):
        text = text_of(app)
        check("ascii-120x40", text)


async def test_a_node_that_ended_is_said_to_have_ended() -> None:
    async with shown(recordings.running()) as (app, pilot, _):
        app.set_connection(NodeEnded("the disk is full"))
        await settle(app, pilot)
        assert text_of(app).splitlines()[0].strip() == "◍ ENDED · the disk is full"
        assert app.screen.has_class("-stale")


async def test_a_completed_run_is_no_failure_when_its_node_has_ended() -> None:
    async with shown(recordings.ended()) as (app, pilot, _):
        app.set_connection(NodeEnded("the run is complete everywhere"))
        await settle(app, pilot)
        text = text_of(app)
        assert "✓ COMPLETE" in text.splitlines()[0]
        assert "✓ trained together: accuracy .9291" in text
        assert not app.screen.has_class("-stale")
        assert not app.session.may("save"), "there is nobody to save it"


async def test_a_name_with_markup_and_control_characters_harms_nothing() -> None:
    async with shown(recordings.hostile(), (120, 40)) as (app, pilot, _):
        for keys in (["2"], ["2", "down", "enter"], ["escape", "4"], ["5"], ["ctrl+p"]):
            await pilot.press(*keys)
            await settle(app, pilot)
            assert "\x1b" not in text_of(app)
            if keys == ["2"]:
                assert "[red]x?[2J" in text_of(app)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(10, 300),
    st.integers(4, 80),
    st.sampled_from(STATES),
    st.lists(
        st.sampled_from([*"12345ctesSvo", "enter", "escape", "down", "end", "question_mark", "space"]),
        max_size=8,
    ),
)
async def test_no_size_state_or_key_breaks_a_screen(width: Any, height: Any, state: Any, keys: Any) -> None:
    async with shown(getattr(recordings, state)(), (width, height)) as (app, pilot, _):
        await pilot.press(*keys)
        await settle(app, pilot)
        lines = text_of(app).splitlines()
        assert len(lines) == height
        assert all(len(line) <= width for line in lines)


async def test_at_100x30_all_peers_of_a_small_federation_are_shown() -> None:
    async with shown(recordings.running(), (100, 30)) as (app, _, _):
        text = text_of(app)
        assert [
            name for name in app.session.state.peers if f" {name} " not in text.split("Round 42")[0]
        ] == []
        assert "41 lab-desktop" in text, "and the last round"


async def test_a_long_list_of_peers_leaves_room_for_rounds() -> None:
    async with shown(recordings.running(), (120, 40)) as (app, pilot, _):
        peer = next(iter(app.session.state.peers.values()))
        app.session.state.peers.update({f"more-{number}": peer for number in range(40)})
        app.screen.draw(everything=True)
        await settle(app, pilot)
        assert "41 lab-desktop" in text_of(app)


async def test_a_screen_ends_when_nobody_is_left_to_give_the_terminal_back() -> None:
    async with shown(recordings.running(), is_abandoned=lambda: True) as (app, pilot, _):
        app.tick()
        await pilot.pause()
        assert not app.is_running
