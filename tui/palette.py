"""What the command palette offers, as far as it makes sense and is allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from textual.app import SystemCommand

from tui import views

if TYPE_CHECKING:
    from tui.app import Tui

LAST_ROUNDS = 20
"""Rounds that can be gone to by name."""


def commands(app: Tui) -> Iterable[SystemCommand]:
    """Yield the commands of *app* as it is now."""
    for title, help_text, does in (*_of_the_node(app), *_of_the_screen(app), *_of_the_demo(app)):
        yield SystemCommand(title, help_text, does)


_Command = tuple[str, str, Callable[[], object]]


def _of_the_node(app: Tui) -> Iterable[_Command]:
    if app.may("start"):
        yield "Start the run", "End this node's --wait", partial(app.order, "start")
    if app.may("pause"):
        yield "Pause the run", "With the next commit, everywhere", partial(app.order, "pause")
        yield "Resume the run", "Go on after a pause", partial(app.order, "resume")
    if app.may("stop"):
        yield "Stop after this round", "The next commit ends the run", partial(app.ask, "stop")
        yield "Stop now", "End the run with the updates there are", partial(app.ask, "stop-now")
    if app.may("save"):
        yield "Save the model", "Into the node's data directory", app.action_save
    if app.may("leave"):
        yield "Let this node leave", "The others go on", partial(app.ask, "leave")


def _of_the_screen(app: Tui) -> Iterable[_Command]:
    yield "Export rounds", "As CSV, JSON lines or an SVG plot", app.action_export
    yield "Switch theme", "Dark or light", app.action_switch_theme
    yield "ASCII symbols", "Or the others", app.action_switch_symbols
    yield "Copy the attach command", app.attach_command(), app.action_copy_attach
    yield "Check the network", "What p2pfl doctor says", app.action_doctor
    yield "Help", "All keys", app.action_help
    yield "Detach", "The node goes on", app.action_detach
    for name in sorted(app.state.peers):
        yield f"Go to peer {views.plain(name)}", "Its details", partial(app.open_peer, name)
    for number in app.state.rounds.numbers()[-LAST_ROUNDS:]:
        yield f"Go to round {number}", "Its details", partial(app.open_round, number)


def _of_the_demo(app: Tui) -> Iterable[_Command]:
    for name in app.demo.names if app.demo is not None else ():
        yield f"Kill node {name}", "As if its plug were pulled", partial(app.ask_kill, name)
        yield f"Start node {name}", "Again, after a kill", partial(app.demo_do, "start", name)
