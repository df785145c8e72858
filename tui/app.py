"""The app: one observed node, one clock, and the screens.

What the node tells goes into the state as it comes; four times a second the visible screen draws what has
changed. Nothing here can stop a training: the app is a client, and quitting only detaches it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.screen import Screen
from textual.worker import Worker

from p2pfl.demo.control import LocalOnlyModel
from p2pfl.errors import NetworkError, UserError
from p2pfl.events import Published, RoundRow
from p2pfl.observe.state import OVER, State
from p2pfl.paths import full, quoted
from p2pfl.wire.observing import Greeting, What
from tui import views
from tui.control import DemoControl
from tui.dialogs import ConfirmDialog, ExportDialog
from tui.palette import commands
from tui.questions import killing, leaving, stopping, stopping_now
from tui.screens.base import BaseScreen
from tui.screens.detail import PeerScreen, RoundScreen
from tui.screens.help import HelpScreen
from tui.screens.log import LogScreen
from tui.screens.network import NetworkScreen
from tui.screens.overview import OverviewScreen
from tui.screens.tables import PeersScreen, RoundsScreen
from tui.source import Connected, Connection, Live, Replay, Retrying
from tui.symbols import glyphs
from tui.theme import DARK, LIGHT
from tui.widgets.ascii_only import AsciiOnly

TICK_SECONDS = 0.25
"""Between two looks at what changed: quick enough to seem live."""

_ASCII_ONLY = AsciiOnly()


class Tui(App[str]):
    """The terminal UI of one node."""

    TITLE = "p2pfl"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    MODES: ClassVar[dict[str, str | Callable[[], Screen[None]]]] = {
        "overview": OverviewScreen,
        "peers": PeersScreen,
        "rounds": RoundsScreen,
        "network": NetworkScreen,
        "log": LogScreen,
    }
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
        Binding("t", "switch_theme", "Theme"),
        Binding("r", "retry", "Retry now"),
        Binding("space", "replay_pause", "Hold the replay"),
        Binding("plus,equals_sign", "replay_speed(2.0)", "Faster"),
        Binding("minus", "replay_speed(0.5)", "Slower"),
        Binding("full_stop", "replay_seek(0.02)", "Forward"),
        Binding("comma", "replay_seek(-0.02)", "Back"),
        Binding("question_mark", "help", "Help"),
        Binding("q", "detach", "Detach"),
        Binding("ctrl+c", "detach", show=False),
    ]

    def __init__(
        self,
        source: Live | Replay,
        *,
        ascii_only: bool = False,
        light: bool = False,
        demo: DemoControl | None = None,
        clock: Callable[[], float] = time.time,
        ticks: bool = True,
    ) -> None:
        """Show what *source* tells; tests inject a *clock* and call `tick` themselves."""
        super().__init__()
        self.source = source
        self.demo = demo
        self.state = State()
        self.glyphs = glyphs(ascii_only)
        self.greeting: Greeting | None = None
        self.connection: Connection = Retrying(0, 0.0, "connecting")
        self.seen_problems = 0
        """Of the log's warnings and errors, those that were there when the log was last looked at."""
        self.problems = 0
        self._clock = clock
        self._has_ticks = ticks
        self._light = light
        self._was_complete: bool | None = None
        self.is_abandoned: Callable[[], bool] = lambda: False
        """Whether whoever opened this screen has died: then nobody else gives the terminal back."""
        self.fault: Exception | None = None
        """What ended the app, if it was a fault in it."""

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Return what the style sheet needs before a theme is chosen."""
        return dict(DARK.variables)

    def _handle_exception(self, error: Exception) -> None:
        """Keep a fault for the log; Textual ends the app."""
        self.fault = error
        super()._handle_exception(error)

    def _fatal_error(self) -> None:
        """End without Textual's own report, pages of it: ours is a sentence, and the rest is in a file."""
        self._close_messages_no_wait()

    # --- life ----------------------------------------------------------------------

    def on_mount(self) -> None:
        """Begin to listen and to draw."""
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = LIGHT.name if self._light else DARK.name
        self.set_class(self.glyphs.is_ascii, "-ascii")
        self._listen()
        if self._has_ticks:
            self.set_interval(TICK_SECONDS, self.tick)

    def _listen(self) -> Worker[None]:
        return self.run_worker(
            self.source.run(self._deliver, self._tell, self._begin_anew), exit_on_error=True, name="source"
        )

    def _deliver(self, item: Published | RoundRow) -> None:
        self.state.apply(item)
        row = self.state.log[-1] if self.state.log else None
        if isinstance(item, Published) and row is not None and row.seq == item.seq:
            self.problems += row.level in ("warning", "error")

    def _begin_anew(self) -> None:
        self.state = State()
        self.problems = self.seen_problems = 0

    def _tell(self, connection: Connection) -> None:
        self.connection = connection
        if isinstance(connection, Connected):
            self.greeting = connection.greeting
        self.refresh_bindings()

    def now(self) -> float:
        """Return the time that ages are counted to: the wall clock's, in a replay the recording's."""
        return self.source.now(self._clock()) if isinstance(self.source, Replay) else self._clock()

    def tick(self) -> None:
        """Draw what changed."""
        if self.is_abandoned():
            self.exit()
            return
        if isinstance(self.source, Replay):
            self.source.play(self._clock(), self._deliver, self._begin_anew)
        if self.demo is not None:
            for report in self.demo.read():
                if isinstance(report.what, LocalOnlyModel):
                    self.state.add_local_only(report.what.name, report.what.accuracy)
                else:
                    self.state.apply(Published(0, report.time, report.what))
        self._ring()
        screen = self.screen
        if isinstance(screen, BaseScreen):
            screen.draw()

    def _ring(self) -> None:
        """Set the window's title, and ring once when the run is over."""
        self.title = views.title(self.state)
        is_complete = self.state.phase in OVER
        if self._was_complete is False and is_complete:
            self.bell()
            word = views.PHASE_WORDS[self.state.phase].capitalize()
            self.notify(f"{word}: {views.finished_text(self.state)}.", title="The run is over")
        if self.state.run:
            self._was_complete = is_complete

    # --- what is shown ----------------------------------------------------------------------

    @property
    def attached(self) -> str:
        """Return as whom and to what this app is attached, in half a line."""
        if isinstance(self.source, Replay):
            return self.source.text
        who = self.greeting.role if self.greeting is not None else "connecting"
        return f"{who}@{self.state.name or self.source.text}"

    @property
    def is_stale(self) -> bool:
        """Whether what is shown is not what is."""
        return not isinstance(self.connection, Connected)

    def may(self, *commands: What) -> bool:
        """Whether the node lets this observer give one of *commands*."""
        if self.greeting is None or self.is_stale:
            return False
        return any(what in self.greeting.may for what in commands)

    @property
    def is_going(self) -> bool:
        """Whether there is a run that has not ended."""
        return bool(self.state.run) and self.state.phase not in (*OVER, "ended")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what one may not do, or what makes no sense here."""
        del parameters
        is_replay = isinstance(self.source, Replay)
        allowed = {
            "start": self.may("start") and not self.state.run,
            "pause_or_resume": self.may("pause") and self.is_going,
            "stop": self.may("stop") and self.is_going,
            "save": self.may("save") and self.state.trained > 0,
            "kill_or_start": self.demo is not None,
            "retry": isinstance(self.connection, Retrying) and not is_replay,
            "replay_pause": is_replay,
            "replay_speed": is_replay,
            "replay_seek": is_replay,
        }
        return allowed.get(action, True)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Return what the command palette offers."""
        del screen
        return commands(self)

    # --- actions ----------------------------------------------------------------------

    async def action_screen(self, mode: str) -> None:
        """Show one of the five screens."""
        while len(self.screen_stack) > 1:
            self.pop_screen()
        await self.switch_mode(mode)
        self.tick()

    def open_peer(self, name: str) -> None:
        """Show one peer."""
        self.push_screen(PeerScreen(name))

    def open_round(self, number: int) -> None:
        """Show one round."""
        self.push_screen(RoundScreen(number))

    def action_help(self) -> None:
        """Show all keys."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())

    def action_detach(self) -> None:
        """Quit; the node goes on."""
        self.exit(f"{self.attached}: {views.finished_text(self.state)}" if self.state.run else self.attached)

    def action_switch_theme(self) -> None:
        """Switch between dark and light."""
        self.theme = DARK.name if self.theme == LIGHT.name else LIGHT.name
        self._redraw()

    def action_switch_symbols(self) -> None:
        """Switch between ASCII and other symbols."""
        self.glyphs = glyphs(not self.glyphs.is_ascii)
        self.set_class(self.glyphs.is_ascii, "-ascii")
        self._redraw()

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return what goes over each line: Textual's filters and, with ASCII symbols, one of ours."""
        filters = super().get_line_filters()
        return [*filters, _ASCII_ONLY] if self.glyphs.is_ascii else filters

    def _redraw(self) -> None:
        screen = self.screen
        if isinstance(screen, BaseScreen):
            screen.draw(everything=True)

    def action_retry(self) -> None:
        """Try to connect at once."""
        if isinstance(self.source, Live):
            self.source.retry_now()

    def action_start(self) -> None:
        """End the node's --wait."""
        self.order("start")

    def action_pause_or_resume(self) -> None:
        """Pause the run, or let it go on."""
        self.order("resume" if self.state.phase == "paused" else "pause")

    def action_stop(self) -> None:
        """Ask how to stop the run."""
        self.ask("stop")

    def action_save(self) -> None:
        """Save the last committed model."""
        self.order("save")

    def action_export(self) -> None:
        """Ask for a file, and write the rounds to it."""
        self.push_screen(ExportDialog(f"p2pfl-{self.state.run[:7] or 'run'}"), self._export)

    def _export(self, path: str | None) -> None:
        if path is None:
            return
        from tui.export import write

        try:
            count = write(full(Path(path)), self.state)
        except UserError as error:
            self.notify(str(error), severity="error", title="Not written", markup=False)
        else:
            self.notify(f"{count} rounds written to {path}", title="Exported", markup=False)

    def action_doctor(self) -> None:
        """Say how to check the network."""
        self.notify("In a shell: p2pfl doctor --certs FOLDER --peers HOST:PORT", title="Network check")

    def attach_command(self) -> str:
        """Return the command line that shows this again."""
        if isinstance(self.source, Replay):
            return "p2pfl tui --replay FILE"
        if self.state.data_dir and self.may("leave"):
            return f"p2pfl tui --data-dir {quoted(self.state.data_dir)}"
        return f"p2pfl tui {self.source.text} --certs FOLDER"

    def action_copy_attach(self) -> None:
        """Copy the command that attaches to this node."""
        self.copy_to_clipboard(self.attach_command())
        self.notify(self.attach_command(), title="Copied", markup=False)

    # --- commands to the node ----------------------------------------------------------------------

    def order(self, what: What) -> None:
        """Give the node a command and show what came of it."""
        if isinstance(self.source, Live):
            self.run_worker(self._order(self.source, what), group="orders")

    async def _order(self, source: Live, what: What) -> None:
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
        """Ask whether *what* is meant, saying what follows, and then give the command."""
        question = {"stop": stopping, "stop-now": stopping_now, "leave": leaving}[what](self.state)
        self.push_screen(ConfirmDialog(*question), self._asked)

    def _asked(self, what: str | None) -> None:
        if what in ("stop", "stop-now", "leave"):
            self.order(what)  # type: ignore[arg-type] # one of the three

    # --- the demo ----------------------------------------------------------------------

    def action_kill_or_start(self) -> None:
        """Kill the selected node of the demo, or start it again."""
        screen = self.screen
        name = screen.selected_peer() if isinstance(screen, BaseScreen) else None
        if self.demo is None or name is None or name not in self.demo.names:
            self.notify("Select a peer first.", severity="warning")
            return
        peer = self.state.peers.get(name)
        if peer is not None and not peer.doing_now:
            self.demo_do("start", name)
        else:
            self.ask_kill(name)

    def ask_kill(self, name: str) -> None:
        """Ask before a node of the demo is killed."""
        self.push_screen(
            ConfirmDialog(*killing(self.state, name)), lambda chosen: self.demo_do("kill", chosen)
        )

    def demo_do(self, what: Literal["kill", "start"], name: str | None) -> None:
        """Have the demo kill or start one of its nodes."""
        if self.demo is not None and name is not None:
            self.demo.do(what, name)
            self.notify(f"{name} is {'killed' if what == 'kill' else 'started'}", title="Demo", markup=False)

    # --- replay ----------------------------------------------------------------------

    def action_replay_pause(self) -> None:
        """Hold the replay, or let it go on."""
        if isinstance(self.source, Replay):
            self.source.paused = not self.source.paused
            self.tick()

    def action_replay_speed(self, factor: float) -> None:
        """Make the replay faster or slower."""
        if isinstance(self.source, Replay):
            self.source.change_speed(factor)
            self.tick()

    def action_replay_seek(self, step: float) -> None:
        """Move in the replay, by a share of its whole length."""
        if isinstance(self.source, Replay):
            self.source.seek(self.source.position + step)
            self.tick()
