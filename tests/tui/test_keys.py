"""Every key and every command of the palette, and what one may not do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from textual.widgets import Input

from p2pfl import events
from p2pfl.events import Published
from p2pfl.observe.connection import Connected, Retrying
from tests.support import recordings
from tests.support.screens import Node, greeting, settle, shown, text_of
from tui import views
from tui.app import Tui
from tui.dialogs import ConfirmDialog, ExportDialog
from tui.screens.detail import PeerScreen, RoundScreen
from tui.screens.help import HelpScreen
from tui.screens.log import LogScreen
from tui.screens.network import NetworkScreen
from tui.screens.overview import OverviewScreen
from tui.screens.tables import PeersScreen, RoundsScreen


async def press(app: Tui, pilot: Any, *keys: str) -> None:
    await pilot.press(*keys)
    await settle(app, pilot)


def toasts(app: Tui) -> Any:
    return [notification.message for notification in app._notifications]


@pytest.mark.parametrize(
    ("key", "screen"),
    [("1", OverviewScreen), ("2", PeersScreen), ("3", RoundsScreen), ("4", NetworkScreen), ("5", LogScreen)],
)
async def test_a_number_shows_a_screen_also_from_a_detail(
    key: str,
    screen: Any,
) -> None:
    async with shown(recordings.running()) as (app, pilot, _):
        await press(app, pilot, "enter")
        assert isinstance(app.screen, PeerScreen)
        await press(app, pilot, key)
        assert type(app.screen) is screen


async def test_on_a_wide_screen_the_selected_peer_is_shown_beside_the_others() -> None:
    async with shown(recordings.running(), (150, 40)) as (app, pilot, _):
        await press(app, pilot, "2")
        assert "Peer lab-desktop" in text_of(app)
        await press(app, pilot, "down")
        assert "Peer attic-nuc" in text_of(app)
        assert "nothing was heard from it for 6 s" in text_of(app)
        assert "Accuracy on its data" in text_of(app)
        await pilot.resize_terminal(120, 40)
        await settle(app, pilot)
        assert "Peer attic-nuc" not in text_of(app)


async def test_who_is_kept_out_has_a_mark_and_a_reason() -> None:
    told = recordings.running()
    banned = events.MemberExcluded(
        recordings.node_id_of("attic-nuc"), "attic-nuc", "is banned by desk: gone", True
    )
    async with shown([*told, Published(told[-1].seq + 1, told[-1].time, banned)], (150, 40)) as (
        app,
        pilot,
        _,
    ):
        assert "⊗ banned" in text_of(app)
        await press(app, pilot, "4")
        assert "attic-nuc ⊗" in text_of(app), "in the picture"
        assert "banned: attic-nuc is banned by desk" in text_of(app)
        await press(app, pilot, "2", "down")
        assert "Peers 6 · 1 kept out" in text_of(app)
        assert "attic-nuc is banned by desk: gone" in text_of(app)


async def test_who_was_kicked_is_shown_so_and_not_as_lost() -> None:
    told = recordings.running()
    kick = events.MemberExcluded(recordings.node_id_of("attic-nuc"), "attic-nuc", "was kicked by desk", False)
    last = told[-1]
    async with shown([*told, Published(last.seq + 1, last.time, kick)], (150, 40)) as (app, pilot, _):
        assert "⊖ kicked" in next(line for line in text_of(app).splitlines() if "attic-nuc" in line)
        await press(app, pilot, "4")
        assert "attic-nuc ⊖" in text_of(app), "in the picture"
        assert "kicked: attic-nuc was kicked by desk" in text_of(app)


async def test_p_pauses_and_resumes() -> None:
    async with shown(recordings.running()) as (app, pilot, node):
        await press(app, pilot, "p")
        assert node.orders == ["pause"]
        assert "pause is done" in toasts(app)
    async with shown(recordings.paused()) as (app, pilot, node):
        await press(app, pilot, "p")
        assert node.orders == ["resume"]


async def test_a_refusal_is_shown_with_its_reason() -> None:
    node = Node()
    node.refusal = "the run is over"
    async with shown(recordings.running(), source=node) as (app, pilot, _):
        await press(app, pilot, "p")
        assert "the run is over" in toasts(app)


@pytest.mark.parametrize(
    ("buttons", "order"),
    [(["tab", "enter"], ["stop"]), (["tab", "tab", "enter"], ["stop-now"]), (["enter"], [])],
)
async def test_x_asks_first_and_says_what_follows(buttons: list[str], order: list[str]) -> None:
    async with shown(recordings.running()) as (app, pilot, node):
        await press(app, pilot, "x")
        assert isinstance(app.screen, ConfirmDialog)
        asked = str(app.screen.query_one("Static").render())
        assert "the run ends on all 6 members, with 42 rounds of 100" in asked
        await press(app, pilot, *buttons)
        assert node.orders == order


async def test_escape_is_no() -> None:
    async with shown(recordings.running()) as (app, pilot, node):
        await press(app, pilot, "x", "escape")
        assert node.orders == []
        assert isinstance(app.screen, OverviewScreen)


async def test_w_saves_the_model() -> None:
    async with shown(recordings.running()) as (app, pilot, node):
        await press(app, pilot, "w")
        assert node.orders == ["save"]


async def test_g_gives_the_start_that_a_node_holds() -> None:
    async with shown(recordings.waiting()) as (app, pilot, node):
        assert "g start" in text_of(app)
        await press(app, pilot, "g")
        assert node.orders == ["start"]


@pytest.mark.parametrize("key", ["p", "x", "w", "g", "k"])
async def test_what_an_observer_may_not_do_is_neither_shown_nor_done(key: str) -> None:
    async with shown(recordings.running(), (120, 40), may=(), role="observer") as (app, pilot, node):
        assert not {"pause", "stop", "save", "start"} & set(text_of(app).splitlines()[-1].split())
        await press(app, pilot, key)
        assert node.orders == []
        assert not isinstance(app.screen, ConfirmDialog)


async def test_without_a_connection_nothing_is_ordered_and_r_hurries() -> None:
    async with shown(recordings.running()) as (app, pilot, node):
        app.set_connection(Retrying(2, app.session.now() + 5, "refused"))
        await press(app, pilot, "p", "x", "r")
        assert node.orders == []
        assert node.retried == 1
        app.set_connection(Connected(greeting()))
        await press(app, pilot, "r")
        assert node.retried == 1


async def test_a_run_that_is_complete_can_neither_be_paused_nor_stopped() -> None:
    async with shown(recordings.finished()) as (app, pilot, node):
        await press(app, pilot, "p", "x")
        assert node.orders == []
        assert isinstance(app.screen, OverviewScreen)


async def test_e_writes_the_rounds_to_the_file_that_is_named(tmp_path: Any) -> None:
    async with shown(recordings.running()) as (app, pilot, _):
        await press(app, pilot, "e")
        assert isinstance(app.screen, ExportDialog)
        app.screen.query_one("#path", Input).value = str(tmp_path / "rounds.svg")
        await press(app, pilot, "enter")
        assert (tmp_path / "rounds.svg").read_text(encoding="utf-8").startswith("<svg")
        await press(app, pilot, "e")
        app.screen.query_one("#path", Input).value = str(tmp_path / "rounds.doc")
        await press(app, pilot, "enter")
        assert any(".csv" in toast for toast in toasts(app))


async def test_t_switches_the_theme_and_question_mark_shows_the_keys() -> None:
    async with shown(recordings.running()) as (app, pilot, _):
        dark = app.theme
        await press(app, pilot, "t")
        assert app.theme != dark
        await press(app, pilot, "question_mark")
        assert isinstance(app.screen, HelpScreen)
        text = text_of(app)
        assert "Pause, or resume" in text
        assert "Overview" in text
        await press(app, pilot, "escape")
        assert isinstance(app.screen, OverviewScreen)


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_q_detaches_and_orders_nothing(key: str) -> None:
    async with shown(recordings.running()) as (app, pilot, node):
        await pilot.press(key)
        await pilot.pause()
        assert app.return_value.startswith("local@lab-desktop: round 41 of 100")
        assert node.orders == []


async def test_enter_opens_a_peer_arrows_go_on_and_l_shows_its_log() -> None:
    async with shown(recordings.running()) as (app, pilot, _):
        await press(app, pilot, "down", "enter")
        assert app.screen.peer_name == "attic-nuc"
        await press(app, pilot, "right")
        assert app.screen.peer_name == "lab-desktop"
        await press(app, pilot, "left", "left")
        assert app.screen.peer_name == "west-thinkpad"
        await press(app, pilot, "y")
        assert app.clipboard == app.session.state.peers["west-thinkpad"].node
        await press(app, pilot, "l")
        assert isinstance(app.screen, LogScreen)
        assert "peer west-thinkpad" in text_of(app)
        await press(app, pilot, "escape", "escape")


async def test_rounds_open_and_arrows_go_on() -> None:
    async with shown(recordings.running()) as (app, pilot, _):
        await press(app, pilot, "3", "down", "enter")
        opened = app.screen
        assert isinstance(opened, RoundScreen)
        assert opened.number == 41
        await press(app, pilot, "left", "left", "right")
        assert opened.is_current
        assert opened.number == 40
        await press(app, pilot, "escape")
        assert isinstance(app.screen, RoundsScreen)


async def test_tables_are_filtered_and_sorted_and_the_cursor_stays_with_its_row() -> None:
    async with shown(recordings.running()) as (app, pilot, _):
        await press(app, pilot, "2", "slash", *"pi5", "enter")
        assert app.screen.table.keys == ["shelf-pi5"]
        await press(app, pilot, "escape")
        assert len(app.screen.table.keys) == 6
        await press(app, pilot, "slash", "!", *"pi5", "enter")
        assert len(app.screen.table.keys) == 5
        await press(app, pilot, "escape", "down", "down")
        chosen = app.screen.table.cursor_key
        await press(app, pilot, "s", "s")
        assert app.screen.table.cursor_key == chosen
        assert app.screen.table.keys == sorted(app.screen.table.keys)
        await press(app, pilot, "S", "S")
        assert app.screen.table.keys[0] == "lab-desktop"


async def test_the_log_is_searched_filtered_held_and_copied() -> None:
    async with shown(recordings.running(), (100, 30)) as (app, pilot, _):
        await press(app, pilot, "5", "v")
        assert "level warnings and errors" in text_of(app)
        await press(app, pilot, "escape", "slash", *"round 41", "enter")
        lines = [line for line in text_of(app).splitlines() if re.search(r"\d\d:\d\d:\d\d", line)]
        assert lines
        assert all("round 41" in line for line in lines)
        await press(app, pilot, "escape", "o")
        assert "peer attic-nuc" in text_of(app)
        await press(app, pilot, "escape", "space")
        assert "held" in text_of(app)
        await press(app, pilot, "end")
        assert "held" not in text_of(app)
        await press(app, pilot, "y")
        assert "round 42: macbook-1 is the aggregator" in app.clipboard


async def test_problems_are_counted_until_the_log_was_looked_at() -> None:
    async with shown(recordings.running(), (120, 40)) as (app, pilot, _):
        app.session.deliver(
            Published(10**6, app.session.now(), events.Notice("error", "the disk is nearly full"))
        )
        await settle(app, pilot)
        assert "!1" in text_of(app).splitlines()[0]
        await press(app, pilot, "5", "1")
        assert "!1" not in text_of(app).splitlines()[0]


async def test_c_goes_through_the_metrics_and_shift_t_switches_to_time() -> None:
    async with shown(recordings.regression()) as (app, pilot, _):
        titles = []
        for _ in range(4):
            await press(app, pilot, "c")
            titles.append(app.screen.metric.border_title)
        assert titles == ["Loss", "MAE", "MSE", "R2"]
        await press(app, pilot, "T")
        assert app.screen.metric.border_title == "R2 over time"
        assert str(app.screen.metric.border_subtitle).startswith("highest 0.")
    async with shown(recordings.running(), (120, 40)) as (app, pilot, _):
        pair = app.screen.metric, app.screen.loss
        assert [chart.border_title for chart in pair] == ["Accuracy", "Loss · log"]
        await press(app, pilot, "c")
        assert [chart.border_title for chart in pair] == ["Loss · log", "Accuracy"], "none is there twice"
        await press(app, pilot, "L")
        assert [chart.border_title for chart in pair] == ["Loss", "Accuracy"]


async def test_arrows_move_the_cursor_of_both_charts_and_z_enlarges_the_first() -> None:
    async with shown(recordings.running(), (120, 40)) as (app, pilot, _):
        await press(app, pilot, "left", "left")
        charts = app.screen.metric, app.screen.loss
        assert [str(chart.border_subtitle) for chart in charts] == ["round 40"] * 2
        await press(app, pilot, "right", "right")
        assert ["round" in str(chart.border_subtitle)[:5] for chart in charts] == [False] * 2
        small = app.screen.metric.size
        await press(app, pilot, "z")
        assert app.screen.metric.size.height > 2 * small.height
        assert app.screen.metric.size.width > 2 * small.width
        assert not app.screen.loss.display
        await press(app, pilot, "z")
        assert app.screen.metric.size == small


async def test_a_adds_the_curve_of_the_selected_peer_and_shift_a_the_best_and_the_worst() -> None:
    async with shown(recordings.running(8, 12), (120, 40)) as (app, pilot, _):
        session, chart = app.session, app.screen.metric
        await press(app, pilot, "a")
        assert session.chosen == (), "this node's own curve is always there"
        await press(app, pilot, "down", "a", "down", "a")
        assert [one.letter for one in chart._values.series] == ["", "", "a", "b"]
        assert session.chosen[0] in text_of(app)
        await press(app, pilot, "a")
        assert len(session.chosen) == 1
        await press(app, pilot, "A", "A")
        assert session.chosen == views.best_and_worst(session.state)
        assert len(session.chosen) == 2
        for _ in range(7):
            await press(app, pilot, "a", "down")
        assert len(session.chosen) == views.MOST_CHOSEN
        assert toasts(app)[-1] == "charts show at most 5 peers: remove one of them with a"
        session.chosen = tuple(f"gone-{number}" for number in range(views.MOST_CHOSEN))
        await press(app, pilot, "a")
        assert session.chosen == (app.screen.selected_peer(),), "names of an earlier run are no longer there"


async def test_peers_have_the_keys_of_the_chart_too() -> None:
    async with shown(recordings.running(), (150, 40)) as (app, pilot, _):
        await press(app, pilot, "2", "down")
        chart = app.screen.details.chart
        for key, title in (("c", "Loss on its data and on all · log"), ("L", "Loss on its data and on all")):
            await press(app, pilot, key)
            assert chart.border_title == title
        await press(app, pilot, "a")
        name = app.session.chosen[0]
        assert toasts(app)[-1] == f"the charts of the overview show the curve of {name}"
        await press(app, pilot, "enter", "c", "L")
        assert app.screen.panels.chart.border_title == "Loss on its data and on all"
        await press(app, pilot, "a")
        assert app.session.chosen == ()
        assert toasts(app)[-1] == f"the charts of the overview no longer show the curve of {name}"


async def test_the_help_names_the_keys_of_charts_and_their_marks() -> None:
    async with shown(recordings.running(), (120, 60)) as (app, pilot, _):
        await press(app, pilot, "question_mark")
        app.screen.query_one("#help").scroll_end(animate=False)
        await settle(app, pilot)
        assert "lost, left or removed" in text_of(app)
        app.screen.query_one("#help").scroll_home(animate=False)
        await settle(app, pilot)
        for words in ("Zoom in", "Chart: the next metric", "Loss on a linear or logarithmic scale"):
            assert words in text_of(app)


PALETTE = {
    "Start the run": ["start"],
    "Pause the run": ["pause"],
    "Resume the run": ["resume"],
    "Save the model": ["save"],
}


async def command(app: Tui, name: str) -> None:
    found = [one for one in app.get_system_commands(app.screen) if one.title == name]
    assert len(found) == 1, name
    found[0].callback()


@pytest.mark.parametrize(("name", "orders"), PALETTE.items())
async def test_the_palette_orders(name: str, orders: list[str]) -> None:
    async with shown(recordings.running()) as (app, pilot, node):
        await command(app, name)
        await settle(app, pilot)
        assert node.orders == orders


@pytest.mark.parametrize(
    ("name", "order"),
    [("Stop after this round", "stop"), ("Stop now", "stop-now"), ("Let this node leave", "leave")],
)
async def test_the_palette_asks_before_what_cannot_be_undone(name: str, order: str) -> None:
    async with shown(recordings.running()) as (app, pilot, node):
        await command(app, name)
        await settle(app, pilot)
        assert isinstance(app.screen, ConfirmDialog)
        await press(app, pilot, "tab", "enter")
        assert node.orders == [order]


async def test_the_palette_goes_to_peers_and_rounds_and_copies_the_attach_command() -> None:
    async with shown(recordings.running()) as (app, pilot, _):
        await command(app, "Go to peer shelf-pi5")
        await settle(app, pilot)
        assert app.screen.peer_name == "shelf-pi5"
        await command(app, "Go to round 30")
        await settle(app, pilot)
        assert app.screen.number == 30
        await command(app, "Copy the attach command")
        assert app.clipboard.startswith("p2pfl tui --data-dir ")
        await command(app, "ASCII symbols")
        await settle(app, pilot)
        assert app.session.glyphs.is_ascii
        await command(app, "Switch theme")
        await command(app, "Export rounds")
        await settle(app, pilot)
        assert isinstance(app.screen, ExportDialog)
        await press(app, pilot, "escape")
        await command(app, "Help")
        await settle(app, pilot)
        assert isinstance(app.screen, HelpScreen)


async def test_the_palette_opens_and_what_an_observer_may_not_do_is_not_in_it() -> None:
    async with shown(recordings.running(), may=(), role="observer") as (app, pilot, _):
        await press(app, pilot, "ctrl+p")
        assert "Search for commands" in text_of(app)
        await press(app, pilot, "escape")
        titles = {one.title for one in app.get_system_commands(app.screen)}
        assert not titles & {*PALETTE, "Stop now", "Stop after this round", "Let this node leave"}
        assert "Export rounds" in titles


async def test_the_end_of_the_run_rings_once() -> None:
    async with shown(recordings.running()) as (app, pilot, _):
        rung = []
        app.bell = lambda: rung.append(True)
        app.session.deliver(
            Published(
                10**6,
                app.session.now(),
                events.RunEnded(app.session.state.run, 100, "d" * 64, {"accuracy": 0.96, "loss": 0.1}),
            )
        )
        for _ in range(3):
            await settle(app, pilot)
        assert rung == [True]
        assert app.title == "r41 96.0%"
