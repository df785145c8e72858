"""What the screens show: the observed node's state, the connection to it, and what this user may do.

The app changes a session; the screens read it. Nothing here draws.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pfl.config import DEFAULT_PORT
from p2pfl.demo.control import DemoLength, DemoReport, LocalOnlyModel
from p2pfl.events import Notice, Published, RoundRow
from p2pfl.observe.connection import Connected, Connection, NodeEnded, Retrying
from p2pfl.observe.state import FINISHED_PHASES, State
from p2pfl.paths import quoted
from p2pfl.wire.observing import CommandName, ObserverWelcome
from tui.control import DemoControl
from tui.source import Live, Replay
from tui.symbols import Glyphs

WILDCARDS = ("0.0.0.0:", "[::]:")
"""Beginnings of addresses that stand for every interface."""

LOOPBACKS = ("127.", "[::1]:", "localhost:")
"""Beginnings of addresses that only the same machine reaches."""


class Session:
    """One observed node, live or recorded."""

    def __init__(
        self,
        source: Live | Replay,
        glyphs: Glyphs,
        clock: Callable[[], float],
        demo: DemoControl | None = None,
    ) -> None:
        """Know nothing of the node yet; *demo* controls the nodes of a demo, if the node is one of them."""
        self.source = source
        self.glyphs = glyphs
        """The symbols to draw with."""
        self.demo = demo
        self.state = State()
        self._facts: list[DemoReport] = []
        """What a demo reported besides lines of the log: a few at most."""
        self.connection: Connection = Retrying(0, 0.0, "connecting")
        self.problems = 0
        """Warnings and errors in the log."""
        self.seen_problems = 0
        """Those of them that were there when the log was last on the screen."""
        self.chosen: tuple[str, ...] = ()
        """Names of the peers whose own curves the charts show."""
        self.writes_files = True
        """Whether exports may be written on this device: not from a browser."""
        self._clock = clock
        self._greeting: ObserverWelcome | None = None
        self._own_host: str | None = None
        """This machine's address in its network, once it was asked for."""

    # --- the state ----------------------------------------------------------------------

    def deliver(self, item: Published | RoundRow | DemoReport) -> None:
        """Take an event or a committed round from the node, or what a demo reports."""
        if isinstance(item, DemoReport):
            self._deliver_report(item)
            return
        self.state.apply(item)
        row = self.state.log[-1] if self.state.log else None
        if isinstance(item, Published) and row is not None and row.seq == item.seq:
            self.problems += row.level in ("warning", "error")

    def _deliver_report(self, report: DemoReport) -> None:
        match report.what:
            case LocalOnlyModel(name=name, value=value):
                self.state.add_local_only(name, value)
            case DemoLength(rounds=rounds):
                self.state.set_demo_rounds(rounds)
            case notice:
                self.state.apply(Published(0, report.time, notice))

    def reset(self) -> None:
        """Forget the state: the source sends everything again, but not what a demo reported."""
        self.state = State()
        self.problems = self.seen_problems = 0
        for report in self._facts:
            self._deliver_report(report)

    def set_connection(self, connection: Connection) -> None:
        """Take the state of the connection."""
        self.connection = connection
        if isinstance(connection, Connected):
            self._greeting = connection.greeting

    def update(self) -> None:
        """Take what has become due in a recording, and what a demo reports."""
        if isinstance(self.source, Replay):
            self.source.play(self._clock(), self.deliver, self.reset)
        if self.demo is not None:
            for report in self.demo.read():
                if not isinstance(report.what, Notice):
                    self._facts.append(report)
                self.deliver(report)

    def now(self) -> float:
        """Return the time that ages refer to: the wall clock's, or in a replay the recording's."""
        return self.source.now if isinstance(self.source, Replay) else self._clock()

    # --- the user ----------------------------------------------------------------------

    @property
    def attached(self) -> str:
        """The user's role and the node's name, or the recording and its position."""
        if isinstance(self.source, Replay):
            return self.source.text
        role = self._greeting.role if self._greeting is not None else "connecting"
        return f"{role}@{self.state.name or self.source.text}"

    @property
    def attach_command(self) -> str:
        """The command line that shows this node again."""
        if isinstance(self.source, Replay):
            return "p2pfl tui --replay FILE"
        if self.state.data_dir and self.may("leave"):
            return f"p2pfl tui --data-dir {quoted(self.state.data_dir)}"
        return f"p2pfl tui {self.source.text} --certs FOLDER"

    @property
    def own_address(self) -> str:
        """The observed node's address for others: one it listens on, or this machine's if it is here."""
        told = [one.strip() for one in self.state.address.split(",")]
        real = [one for one in told if one and not one.startswith(WILDCARDS)]
        if real:
            return next((one for one in real if not one.startswith(LOOPBACKS)), real[0])
        port = told[0].rpartition(":")[2] or str(DEFAULT_PORT)
        host = self.source.text.rpartition(":")[0] if isinstance(self.source, Live) else ""
        if self._greeting is not None and self._greeting.role == "local":
            if self._own_host is None:
                from p2pfl.enrolment.own_address import own_address  # it asks the operating system

                self._own_host = own_address()
            host = f"[{self._own_host}]" if ":" in self._own_host else self._own_host
        return f"{host or 'THIS-DEVICE'}:{port}"

    @property
    def is_stale(self) -> bool:
        """Whether the state may be out of date, since there is no connection."""
        if isinstance(self.connection, NodeEnded) and self.state.phase in FINISHED_PHASES:
            return False
        return not isinstance(self.connection, Connected)

    @property
    def has_open_run(self) -> bool:
        """Whether there is a run that has not ended."""
        return bool(self.state.run) and self.state.phase not in (*FINISHED_PHASES, "ended")

    def may(self, *commands: CommandName) -> bool:
        """Return whether the node takes one of *commands* from this user."""
        if self._greeting is None or not isinstance(self.connection, Connected):
            return False
        return any(what in self._greeting.may for what in commands)

    def allows(self, action: str) -> bool:
        """Return whether *action* of the app makes sense now and is permitted."""
        is_replay = isinstance(self.source, Replay)
        allowed = {
            "start": self.may("start") and not self.state.run,
            "pause_or_resume": self.may("pause") and self.has_open_run,
            "stop": self.may("stop") and self.has_open_run,
            "save": self.may("save") and self.state.trained > 0,
            "export": self.writes_files,
            "doctor": isinstance(self.source, Live) and self.writes_files,
            "kill_or_start": self.demo is not None,
            "retry": isinstance(self.connection, Retrying) and not is_replay,
            "replay_pause": is_replay,
            "replay_speed": is_replay,
            "replay_seek": is_replay,
            "replay_end": is_replay,
            "replay_round": is_replay,
        }
        return allowed.get(action, True)
