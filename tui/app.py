"""The Textual app: the screens, the keys, and the commands to the observed node.

Events update the session's state as they arrive; four times a second the visible screen draws what changed.
The app is only an observer: quitting detaches it and never stops the training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.screen import Screen
from textual.widgets import Input
from textual.worker import Worker

from p2pfl.errors import NetworkError, UserError
from p2pfl.observe.connection import Connection
from p2pfl.observe.state import FINISHED_PHASES
from p2pfl.paths import full
from p2pfl.wire.observing import CommandName
from tui import views
from tui.check import doctor_words, run_doctor
from tui.control import DemoControl
from tui.dialogs import CheckDialog, ConfirmDialog, ExportDialog, killing, leaving, stopping, stopping_now
from tui.screens.base import BaseScreen, ShowPeer, ShowRound
from tui.screens.detail import PeerScreen, RoundScreen
from tui.screens.help import HelpScreen
from tui.screens.log import LogScreen
from tui.screens.network import NetworkScreen
from tui.screens.overview import OverviewScreen
from tui.screens.tables import PeersScreen, RoundsScreen
from tui.session import Session
from tui.source import Live, Replay
from tui.symbols import glyphs
from tui.theme import DARK, LIGHT, OURS, variables_of
from tui.widgets.ascii_only import AsciiOnly
from tui.widgets.log import LogView
from tui.widgets.scrub import Scrub

TICK_SECONDS = 0.25
"""Interval between two updates of the screen: short enough to look live."""

_ASCII_ONLY = AsciiOnly()


SCREENS: dict[str, Callable[[Session], Screen[None]]] = {
    "overview": OverviewScreen,
    "peers": PeersScreen,
    "rounds": RoundsScreen,
    "network": NetworkScreen,
    "log": LogScreen,
}
"""The five screens, by mode."""

_Command = tuple[str, Callable[[], object]]
"""An entry of the command palette: its line, and what it calls."""

LAST_ROUNDS = 20
"""Rounds that the command palette lists."""


class Tui(App[str]):
    """The terminal UI of one node."""

    TITLE = "p2pfl"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    DEFAULT_MODE = "overview"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "screen('overview')", "Overview"),
        Binding("2", "screen('peers')", "Peers"),
        Binding("3", "screen('rounds')", "Rounds"),
        Binding("4", "screen('network')", "Network"),
        Binding("5", "screen('log')", "Log"),
        Binding("g", "start", "Start the run"),
        Binding("p", "pause_or_resume", "Pause, or resume"),
        Binding("x", "stop", "Stop"),
        Binding("w", "save", "Save model"),
        Binding("e", "export", "Export"),
        Binding("k", "kill_or_start", "Kill or start a node"),
        Binding("d", "doctor", "Check the network"),
        Binding("t", "switch_theme", "Theme"),
        Binding("r", "retry", "Retry now"),
        Binding("space", "replay_pause", "Hold the replay"),
        Binding("plus,equals_sign", "replay_speed(2.0)", "Faster"),
        Binding("minus", "replay_speed(0.5)", "Slower"),
        Binding("full_stop", "replay_seek(0.02)", "Forward"),
        Binding("comma", "replay_seek(-0.02)", "Back"),
        Binding("left_square_bracket", "replay_round(-1)", "The round before"),
        Binding("right_square_bracket", "replay_round(1)", "The next round"),
        Binding("home", "replay_end(0)", "To the beginning", priority=True),
        Binding("end", "replay_end(1)", "To the end", priority=True),
        Binding("question_mark", "help", "Help"),
        Binding("q", "detach", "Detach"),
        Binding("ctrl+c", "detach", show=False),
    ]

    def __init__(
        self,
        source: Live | Replay,
        *,
        ascii_only: bool = False,
        theme: str = DARK.name,
        demo: DemoControl | None = None,
        is_abandoned: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
        ticks: bool = True,
    ) -> None:
        """Show the node of *source*; *is_abandoned* says whether the process that started this one has died.

        Tests inject a *clock* and, without *ticks*, call `tick` themselves.
        """
        super().__init__()
        self.session = Session(source, glyphs(ascii_only), clock, demo)
        for mode, screen in SCREENS.items():
            self.add_mode(mode, partial(screen, self.session))
        self.fault: Exception | None = None
        """The error in this app that ended it."""
        self._is_abandoned = is_abandoned
        self._has_ticks = ticks
        self._first_theme = theme
        self.on_theme: Callable[[str], None] | None = None
        """Called with the name of each theme that the user chooses."""
        self.on_over: Callable[[str], None] | None = None
        """Called with a sentence when the run is over."""
        self._was_over: bool | None = None

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Return the variables that the style sheet needs before a theme is chosen."""
        return variables_of(self.current_theme)

    def _handle_exception(self, error: Exception) -> None:
        """Keep the error for the caller; Textual ends the app."""
        self.fault = error
        super()._handle_exception(error)

    def _fatal_error(self) -> None:
        """End without Textual's own pages of report: ours is a sentence, with the traceback in a file."""
        self._close_messages_no_wait()

    # --- life ----------------------------------------------------------------------

    def on_mount(self) -> None:
        """Start following the source, and drawing."""
        for theme in OURS:
            self.register_theme(theme)
        self.theme = self._first_theme
        self.set_class(self.session.glyphs.is_ascii, "-ascii")
        self._follow()
        if self._has_ticks:
            self.set_interval(TICK_SECONDS, self.tick)

    def _follow(self) -> Worker[None]:
        session = self.session
        return self.run_worker(
            session.source.run(session.deliver, self.set_connection, session.reset),
            exit_on_error=True,
            name="source",
        )

    def set_connection(self, connection: Connection) -> None:
        """Take the state of the connection; it decides which keys there are."""
        self.session.set_connection(connection)
        self.refresh_bindings()

    def tick(self) -> None:
        """Draw what changed."""
        if self._is_abandoned():  # nobody else gives the terminal back then
            self.exit()
            return
        self.session.update()
        self._announce()
        for screen in reversed(self.screen_stack):
            if isinstance(screen, BaseScreen):
                screen.draw()
                break
            screen.refresh()  # a dialog, which shows the screen below it

    def _announce(self) -> None:
        """Set the app's title, and ring the bell once when the run is over."""
        self.set_reactive(App.title, views.title(self.session.state))  # an assignment redraws the screen
        is_over = self.session.state.phase in FINISHED_PHASES
        if self._was_over is False and is_over:
            self.bell()
            if self.on_over is not None:
                self.on_over(views.finished_text(self.session.state))
            word = views.PHASE_WORDS[self.session.state.phase].capitalize()
            self.notify(f"{word}: {views.finished_text(self.session.state)}.", title="The run is over")
        if self.session.state.run:
            self._was_over = is_over

    def write_to_terminal(self, sequence: str) -> None:
        """Write an escape sequence that draws nothing."""
        if self._driver is not None:
            self._driver.write(sequence)
            self._driver.flush()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide an action that makes no sense now or is not permitted."""
        del parameters
        if action == "replay_end" and isinstance(self.focused, Input | LogView):
            return False  # these keys mean something else there
        return self.session.allows(action)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Return the entries of the command palette."""
        del screen
        for title, call in (*self._node_commands(), *self._screen_commands(), *self._demo_commands()):
            yield SystemCommand(title, "", call)

    def _node_commands(self) -> Iterable[_Command]:
        may = self.session.may
        if may("start"):
            yield "Start the run", partial(self.order, "start")
        if may("pause"):
            yield "Pause the run", partial(self.order, "pause")
            yield "Resume the run", partial(self.order, "resume")
        if may("stop"):
            yield "Stop after this round", partial(self.ask, "stop")
            yield "Stop now", partial(self.ask, "stop-now")
        if may("save"):
            yield "Save the model", self.action_save
        if may("leave"):
            yield "Let this node leave", partial(self.ask, "leave")

    def _screen_commands(self) -> Iterable[_Command]:
        if self.session.writes_files:
            yield "Export rounds", self.action_export
        yield "Switch theme", self.action_switch_theme
        yield "Choose a theme", self.action_choose_theme
        yield "ASCII symbols", self.action_switch_symbols
        yield "Copy the attach command", self.action_copy_attach
        if self.session.allows("doctor"):
            yield "Check the network", self.action_doctor
        yield "Help", self.action_help
        yield "Detach", self.action_detach
        state = self.session.state
        for name in sorted(state.peers):
            yield f"Go to peer {views.display_name(name)}", partial(self.open_peer, name)
        for number in state.rounds.numbers()[-LAST_ROUNDS:]:
            yield f"Go to round {number}", partial(self.open_round, number)

    def _demo_commands(self) -> Iterable[_Command]:
        demo = self.session.demo
        for name in demo.names if demo is not None else ():
            yield f"Kill node {name}", partial(self.ask_kill, name)
            yield f"Start node {name}", partial(self.demo_do, "start", name)

    # --- actions ----------------------------------------------------------------------

    async def action_screen(self, mode: str) -> None:
        """Show one of the five screens."""
        while len(self.screen_stack) > 1:
            self.pop_screen()
        await self.switch_mode(mode)
        self.tick()

    def open_peer(self, name: str) -> None:
        """Show one peer."""
        self.push_screen(PeerScreen(self.session, name))

    def open_round(self, number: int) -> None:
        """Show one round."""
        self.push_screen(RoundScreen(self.session, number))

    def on_show_peer(self, message: ShowPeer) -> None:
        """Show the peer that a screen asks for."""
        self.open_peer(message.name)

    def on_show_round(self, message: ShowRound) -> None:
        """Show the round that a screen asks for."""
        self.open_round(message.number)

    def action_help(self) -> None:
        """Show all keys."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.session.glyphs))

    def action_detach(self) -> None:
        """Quit; the node continues."""
        self.exit(
            f"{self.session.attached}: {views.finished_text(self.session.state)}"
            if self.session.state.run
            else self.session.attached
        )

    def action_switch_theme(self) -> None:
        """Switch between dark and light."""
        self.theme = LIGHT.name if self.current_theme.dark else DARK.name

    def action_choose_theme(self) -> None:
        """Show a list of all themes."""
        self.search_themes()

    def watch_theme(self, before: str, now: str) -> None:
        """Draw in the new colours, and remember a theme that the user has chosen."""
        if before != now and self.is_running and now != self._first_theme:
            self._first_theme = ""
            if self.on_theme is not None:
                self.on_theme(now)
        for screen in self.screen_stack if self.is_running else ():
            if isinstance(screen, BaseScreen):
                screen.draw(everything=True)

    def action_switch_symbols(self) -> None:
        """Switch between ASCII and other symbols."""
        self.session.glyphs = glyphs(not self.session.glyphs.is_ascii)
        self.set_class(self.session.glyphs.is_ascii, "-ascii")
        self._redraw()

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return Textual's filters of each line and, with ASCII symbols, our own."""
        filters = super().get_line_filters()
        return [*filters, _ASCII_ONLY] if self.session.glyphs.is_ascii else filters

    def _redraw(self) -> None:
        screen = self.screen
        if isinstance(screen, BaseScreen):
            screen.draw(everything=True)

    def action_retry(self) -> None:
        """Connect now."""
        if isinstance(self.session.source, Live):
            self.session.source.retry_now()

    def action_start(self) -> None:
        """Start the run, with the node's options."""
        self.order("start")

    def action_pause_or_resume(self) -> None:
        """Pause or resume the run."""
        self.order("resume" if self.session.state.phase == "paused" else "pause")

    def action_stop(self) -> None:
        """Ask whether to stop the run after this round or now."""
        self.ask("stop")

    def action_save(self) -> None:
        """Save the last committed model."""
        self.order("save")

    def action_export(self) -> None:
        """Ask for a file and write the rounds to it."""
        self.push_screen(ExportDialog(f"p2pfl-{self.session.state.run[:7] or 'run'}"), self._export)

    def _export(self, path: str | None) -> None:
        if path is None:
            return
        from tui.export import write

        try:
            count = write(full(Path(path)), self.session.state)
        except UserError as error:
            self.notify(str(error), severity="error", title="Not written", markup=False)
        else:
            self.notify(f"{count} rounds written to {path}", title="Exported", markup=False)

    def action_doctor(self) -> None:
        """Check the network with the certificate that this screen has, and show what is found."""
        source, state = self.session.source, self.session.state
        if isinstance(source, Live):
            words = doctor_words(source.target, state)
            self.push_screen(CheckDialog(partial(run_doctor, words), self.session.glyphs))

    def action_copy_attach(self) -> None:
        """Copy the command that attaches to this node."""
        self.copy_to_clipboard(self.session.attach_command)
        self.notify(self.session.attach_command, title="Copied", markup=False)

    # --- commands to the node ----------------------------------------------------------------------

    def order(self, what: CommandName) -> None:
        """Send the node a command and show the answer."""
        if isinstance(self.session.source, Live):
            self.run_worker(self._order(self.session.source, what), group="orders")

    async def _order(self, source: Live, what: CommandName) -> None:
        try:
            answer = await source.order(what)
        except NetworkError as error:
            self.notify(str(error), severity="error", title=f"{what}: no answer", markup=False)
            return
        if answer.refused:
            self.notify(answer.refused, severity="warning", title=f"{what}: refused", markup=False)
        else:
            self.notify(answer.text, title=what, markup=False)

    def ask(self, what: Literal["stop", "stop-now", "leave"]) -> None:
        """Ask for confirmation of *what*, naming its consequence, and then send the command."""
        question = {"stop": stopping, "stop-now": stopping_now, "leave": leaving}[what](self.session.state)
        self.push_screen(ConfirmDialog(question), self._asked)

    def _asked(self, what: str | None) -> None:
        if what in ("stop", "stop-now", "leave"):
            self.order(what)  # type: ignore[arg-type] # one of the three

    # --- the demo ----------------------------------------------------------------------

    def action_kill_or_start(self) -> None:
        """Kill the selected node of the demo, or restart it."""
        screen = self.screen
        name = screen.selected_peer() if isinstance(screen, BaseScreen) else None
        if self.session.demo is None or name is None or name not in self.session.demo.names:
            self.notify("Select a peer first.", severity="warning")
            return
        peer = self.session.state.peers.get(name)
        if peer is not None and not peer.is_connected:
            self.demo_do("start", name)
        else:
            self.ask_kill(name)

    def ask_kill(self, name: str) -> None:
        """Ask before a node of the demo is killed."""
        self.push_screen(
            ConfirmDialog(killing(self.session.state, name)), lambda chosen: self.demo_do("kill", chosen)
        )

    def demo_do(self, what: Literal["kill", "start"], name: str | None) -> None:
        """Tell the demo to kill or start one of its nodes."""
        if self.session.demo is not None and name is not None:
            self.session.demo.do(what, name)
            self.notify(f"{name} is {'killed' if what == 'kill' else 'started'}", title="Demo", markup=False)

    # --- replay ----------------------------------------------------------------------

    def action_replay_pause(self) -> None:
        """Hold or continue the replay."""
        if isinstance(self.session.source, Replay):
            self.session.source.paused = not self.session.source.paused
            self.tick()

    def action_replay_speed(self, factor: float) -> None:
        """Change the speed of the replay."""
        if isinstance(self.session.source, Replay):
            self.session.source.change_speed(factor)
            self.tick()

    def action_replay_seek(self, step: float) -> None:
        """Move within the replay, by a share of its length."""
        if isinstance(self.session.source, Replay):
            self.session.source.seek(self.session.source.position + step)
            self.tick()

    def action_replay_round(self, step: int) -> None:
        """Go to the end of the round before or of the next one."""
        if isinstance(self.session.source, Replay):
            self.session.source.step_round(step)
            self.tick()

    def action_replay_end(self, position: float) -> None:
        """Go to the beginning or to the end of the replay."""
        if isinstance(self.session.source, Replay):
            self.session.source.seek(float(position))
            self.tick()

    def on_scrub_sought(self, message: Scrub.Sought) -> None:
        """Go where the scrub bar was clicked."""
        self.action_replay_end(message.position)
