"""The details of one peer, and of one round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from p2pfl.observe.state import Section, State
from tui import views
from tui.screens.base import BaseScreen, Lines
from tui.screens.log import LogScreen
from tui.session import Session
from tui.widgets.bars import draw_bars, label_bars
from tui.widgets.chart import Chart
from tui.widgets.gantt import draw_gantt
from tui.widgets.paint import set_subtitle, set_title


class PeerPanels(Vertical):
    """The panels with the details of one peer."""

    DEFAULT_CSS = "PeerPanels { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__(id="details")
        self._metric = ""
        """The metric of the chart; empty for the primary one."""
        self.device_info = Lines(id="facts", classes="panel")
        self.chart = Chart(id="own", classes="panel")
        self.chart.can_focus = False  # the arrows go from peer to peer
        self.labels = Lines(id="labels", classes="panel")
        self.its_rounds = Lines(id="its-rounds", classes="panel")

    def compose(self) -> ComposeResult:
        """Put device, chart and labels, and rounds below each other."""
        yield self.device_info
        yield Horizontal(self.chart, self.labels, id="middle")
        yield self.its_rounds

    def on_mount(self) -> None:
        """Name the panels."""
        self.labels.border_title, self.its_rounds.border_title = "Its data", "Its last rounds"

    def next_metric(self, state: State) -> None:
        """Let the chart show the next metric when it is drawn again."""
        names = views.metrics_of(state)
        here = names.index(self._metric) if self._metric in names else 0
        self._metric = names[(here + 1) % len(names)]

    def show(self, session: Session, name: str, changed: set[Section]) -> None:
        """Show the peer *name*, for the sections that *changed*."""
        state, glyphs = session.state, session.glyphs
        peer = state.peers.get(name)
        if peer is None:
            self.device_info.show([Text("this peer is no longer known")])
            return
        set_title(self.device_info, f"Peer {views.display_name(peer.name)}")
        self.device_info.show(views.peer_lines(state, peer, session.now(), glyphs))
        if changed & {"rounds", "run"}:
            self.chart.glyphs = glyphs
            metric = self._metric if self._metric in views.metrics_of(state) else state.primary
            self.chart.show_values(views.peer_chart(state, peer, metric))
            room = max(1, self.its_rounds.size.height)
            self.its_rounds.show(views.peer_rounds(state, peer, room))
        if changed & {"peers", "run"}:
            part = peer.device_info.part if peer.device_info is not None else None
            labels = part.labels if part is not None else ()
            size, is_counted = self.labels.size, any(count.examples for count in labels)
            set_title(self.labels, "Its data, by label" if is_counted else "Its data")
            self.labels.show(
                label_bars(labels, size.width, size.height, glyphs)
                if is_counted
                else views.data_lines(peer.device_info)
            )


class PeerScreen(BaseScreen):
    """The details of one peer."""

    NUMBER = "2"
    KEYS = (("←→", "peer"), ("l", "its log"), ("y", "copy id"), ("esc", "back"))
    KEYS_MORE = (("c", "metric"), ("a", "add curve"))
    BINDINGS: ClassVar = [
        ("escape", "app.pop_screen", "Back"),
        ("left", "step(-1)", "The peer before"),
        ("right", "step(1)", "The next peer"),
        ("c", "metric", "Chart: the next metric"),
        ("L", "scale", "Chart on a linear or logarithmic scale"),
        ("a", "choose", "Charts of the overview: its curve, or not"),
        ("l", "its_log", "Its log"),
        ("y", "copy_id", "Copy its node id"),
    ]

    def __init__(self, session: Session, name: str) -> None:
        super().__init__(session)
        self.peer_name = name
        self.panels = PeerPanels()

    def body(self) -> Sequence[Widget]:
        """Return the panels: device, chart, labels and rounds."""
        return (self.panels,)

    def draw_body(self, changed: set[Section]) -> None:
        """Draw the peer."""
        self.panels.show(self.session, self.peer_name, changed)

    def action_step(self, step: int) -> None:
        """Show another peer."""
        names = sorted(self.state.peers)
        if self.peer_name in names:
            self.peer_name = names[(names.index(self.peer_name) + step) % len(names)]
            self.draw(everything=True)

    def action_metric(self) -> None:
        """Show the next metric."""
        self.panels.next_metric(self.state)
        self.draw(everything=True)

    def action_scale(self) -> None:
        """Switch the scale of the chart."""
        self.panels.chart.action_scale()

    def action_choose(self) -> None:
        """Show its curve on the overview, or no longer."""
        self.choose_peer(says_so=True)

    def action_its_log(self) -> None:
        """Show the log lines about this peer."""
        self.app.push_screen(LogScreen(self.session, self.peer_name))

    def action_copy_id(self) -> None:
        """Copy its node id."""
        peer = self.state.peers.get(self.peer_name)
        if peer is not None:
            self.app.copy_to_clipboard(peer.node)
            self.notify("its node id is copied")

    def selected_peer(self) -> str | None:
        """Return the peer's name."""
        return self.peer_name


class RoundScreen(BaseScreen):
    """The result of one round, and the time each member took."""

    NUMBER = "3"
    SECTIONS = ("rounds", "peers", "run")
    KEYS = (("←→", "round"), ("e", "export"), ("esc", "back"))
    BINDINGS: ClassVar = [
        ("escape", "app.pop_screen", "Back"),
        ("left", "step(-1)", "The round before"),
        ("right", "step(1)", "The next round"),
    ]

    def __init__(self, session: Session, number: int) -> None:
        super().__init__(session)
        self.number = number
        self.gantt = Lines(id="gantt", classes="panel")
        self.result = Lines(id="result", classes="panel")
        self.by_class = Lines(id="by-class", classes="panel")
        self.meanwhile = Lines(id="meanwhile", classes="panel")

    def body(self) -> Sequence[Widget]:
        """Return the Gantt chart, the result with the bars of the classes, and on a large screen the log."""
        return (self.gantt, Horizontal(self.result, self.by_class, id="outcome"), self.meanwhile)

    def on_mount(self) -> None:
        """Name the panels."""
        super().on_mount()
        self.result.border_title, self.meanwhile.border_title = "Result", "Log of the round"

    def draw_body(self, changed: set[Section]) -> None:
        """Draw the round if it changed."""
        if not changed:
            return
        glyphs = self.session.glyphs
        one = self.state.rounds.get(self.number)
        if one is None:
            self.gantt.show([Text(f"round {self.number} is no longer known here")])
            return
        rows, total = views.round_gantt(self.state, one)
        merged = f"{len(one.updates)}/{len(one.updates) + len(one.left_out)} merged"
        who = f"{glyphs.star} {views.display_name(one.aggregator)}"
        took = f"{one.seconds:.1f}s · " if one.seconds else ""
        set_title(self.gantt, f"Round {one.round} · {who} · {took}{merged}")
        size = self.gantt.size
        self.gantt.show(draw_gantt(rows, total, size.width, glyphs), grows=True)
        self.result.show(views.round_lines(self.state, one, glyphs))
        size = self.by_class.size
        bars, is_sorted = views.class_bars(self.state, one, size.height)
        if self.by_class.display != bool(bars):
            self.by_class.display = bool(bars)
            self.call_after_refresh(self.draw, everything=True)
        set_title(self.by_class, "Recall by class")
        set_subtitle(self.by_class, "lowest first" if is_sorted else "")
        self.by_class.show(draw_bars(bars, size.width, size.height, glyphs, rest="classes"))
        if self.meanwhile.display:
            width, height = self.meanwhile.content_size
            told = views.round_log(self.state, one)[-height:] if height else []
            self.meanwhile.show([views.log_line(row, width, glyphs) for row in reversed(told)])

    def action_step(self, step: int) -> None:
        """Show another round."""
        numbers = self.state.rounds.numbers()
        if self.number in numbers:
            place = numbers.index(self.number) + step
            if 0 <= place < len(numbers):
                self.number = numbers[place]
                self.draw(everything=True)
