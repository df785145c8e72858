"""The overview screen: peers, charts, rounds, network and the last log lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.geometry import Size
from textual.widget import Widget

from p2pfl.observe.state import FINISHED_PHASES, Section
from tui import views
from tui.screens.base import BaseScreen, Lines, RingPanel, ShowPeer, ShowRound
from tui.session import Session
from tui.widgets.chart import Chart
from tui.widgets.paint import set_title
from tui.widgets.table import LiveTable

FRAME_ROWS = 3
"""Rows of a table for its border and headings."""

LEAST_ROUND_ROWS = 2
"""Rounds that stay visible below a long list of peers."""

LAST_ROUNDS = 60
"""Rounds in the table, more than fit; the Rounds screen has them all."""


class OverviewScreen(BaseScreen):
    """The first screen."""

    NUMBER = "1"
    KEYS = (("enter", "open"), ("c", "metric"))
    KEYS_MORE = (("←→", "values"), ("a", "add curve"), ("z", "enlarge"))
    KEYS_BEFORE = (("y", "copy"),)
    BINDINGS: ClassVar = [
        ("c", "metric", "Chart: the next metric"),
        ("z", "enlarge", "Chart: as large as the screen, or not"),
        ("T", "time", "Charts over rounds, or over time"),
        ("L", "scale", "Loss on a linear or logarithmic scale"),
        ("left", "cursor(-1)", "Charts: values of the round before; shift: ten"),
        ("right", "cursor(1)", "Charts: values of the next round; shift: ten"),
        Binding("shift+left", "cursor(-10)", show=False),
        Binding("shift+right", "cursor(10)", show=False),
        ("a", "choose", "Charts: the selected peer's curve, or not"),
        ("A", "choose_extremes", "Charts: the best and the worst peer, or none"),
        ("y", "copy_join", "Before the run: copy the line for another device"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._over_time = False
        self._metric = ""
        """The metric of the first chart; empty for the primary one."""
        self._chart_data = views.ChartData()
        self._network_size = Size(0, 0)
        self._trends = views.PeerTrends()
        self.peers = LiveTable(views.PEER_COLUMNS, id="peers", classes="panel")
        self.metric = Chart(id="metric", classes="panel")
        self.loss = Chart(id="loss", classes="panel")
        self.round = Lines(id="round", classes="panel")
        self.round_line = Lines(id="round-line")
        self.rounds = LiveTable(views.ROUND_COLUMNS, id="rounds", classes="panel")
        self.network = RingPanel(id="network", classes="panel")
        self.log_lines = Lines(id="log", classes="panel")
        self.waiting = Lines(id="waiting", classes="panel")
        self.here = RingPanel(id="here", classes="panel")

    def body(self) -> Sequence[Widget]:
        """Return the panels; the style sheet hides those that have no room."""
        return (
            Horizontal(self.waiting, self.here, id="before"),
            Horizontal(
                Vertical(self.peers, self.round, self.rounds, id="left"),
                Vertical(self.metric, self.loss, self.network, id="right"),
                id="columns",
            ),
            self.round_line,
            self.log_lines,
        )

    def on_mount(self) -> None:
        """Set the titles of the panels."""
        super().on_mount()
        self.round.border_title, self.rounds.border_title = "Round", "Rounds"
        self.network.border_title = "Network"
        self.log_lines.border_title, self.here.border_title = "Log", "Federation"
        self.rounds.can_focus = False
        self.peers.focus()

    def draw_body(self, changed: set[Section]) -> None:
        """Draw the panels whose sections *changed*."""
        session, state, now = self.session, self.state, self.session.now()
        is_alone = not state.run and state.phase in ("starting", "waiting")
        if is_alone != self.has_class("-alone"):
            self.set_class(is_alone, "-alone")
            # Panels that were hidden have a size then, and can take the focus.
            self.call_after_refresh(self.draw, everything=True)
            self.call_after_refresh(self.peers.focus)
        if is_alone:
            self._draw_waiting(now)
        else:
            self.peers.glyphs = self.metric.glyphs = self.loss.glyphs = session.glyphs
            self._draw_peers(now)
            if changed & {"rounds", "run", "open"}:
                self._draw_table()
            if changed & {"rounds", "run"}:
                self._draw_charts()
            self._draw_round(now)
            if changed & {"traffic", "peers", "open"} or self.network.size != self._network_size:
                self._network_size = self.network.size
                self._draw_network(now)
        if "log" in changed:
            room = max(1, self.log_lines.size.height)
            width = self.log_lines.size.width
            rows = list(state.log)[-room:]
            self.log_lines.show([views.log_line(row, width, session.glyphs) for row in reversed(rows)])

    def _draw_waiting(self, now: float) -> None:
        """Draw what the node waits for before the run."""
        session, state = self.session, self.state
        is_anybody_here = any(peer.linked for peer in state.peers.values())
        set_title(self.waiting, "Before the run begins" if is_anybody_here else "Nobody else is here yet")
        width, height = self.waiting.content_size
        own, may_start = session.own_address, session.may("start")
        self.waiting.show(
            views.waiting_lines(
                state, now, session.glyphs, own=own, may_start=may_start, width=width, height=height
            )
        )
        if self.here.display:
            self.here.show_ring(views.ring(state, now, session.glyphs), session.glyphs)

    def _draw_round(self, now: float) -> None:
        """Draw the open round; after the last one, the result of the run."""
        state, glyphs = self.state, self.session.glyphs
        self.set_class(state.phase in FINISHED_PHASES and bool(state.local_only), "-compared")
        if state.phase in FINISHED_PHASES:
            set_title(self.round, "Result")
            keys = [("w", "save the model")] if self.session.allows("save") else []
            keys += [("e", "export the rounds")] if self.session.allows("export") else []
            keys.append(("q", "detach"))
            width = self.round.content_size.width
            self.round.show(views.finale_lines(state, glyphs, keys, width))
            self.round_line.show([views.finale_line(state, glyphs)])
            return
        aggregator = state.open.aggregator if state.open is not None else ""
        who = f" · {glyphs.star} {views.display_name(aggregator)}" if aggregator else ""
        set_title(self.round, f"{views.open_name(state)}{who}")
        self.round.show(views.open_lines(state, now, glyphs, self.round.size.width))
        self.round_line.show([views.open_line(state, now, glyphs)])

    def _draw_network(self, now: float) -> None:
        """Draw the federation as a picture where there is room for it, else as lines."""
        state, glyphs = self.state, self.session.glyphs
        width, height = self.network.content_size
        if self.has_class("-huge"):
            self.network.show_ring(views.ring(state, now, glyphs), glyphs)
        else:
            self.network.show(views.network_lines(state, now, glyphs, width=width, count=max(1, height)))

    def _draw_peers(self, now: float) -> None:
        state = self.state
        glyphs, is_huge = self.session.glyphs, self.has_class("-huge")
        trends = self._trends.get(state, glyphs) if is_huge else None
        self.peers.set_columns(
            views.columns(state, views.WIDE_PEER_COLUMNS if is_huge else views.PEER_COLUMNS)
        )
        self.peers.set_rows(views.peer_rows(state, now, glyphs, trends))
        here, members = views.reachable(state)
        gone = f" · {members - here} gone" if here < members else ""
        set_title(self.peers, f"Peers {len(state.peers)}{gone}")
        self._share_rows()

    def _share_rows(self) -> None:
        """Where the rounds are below the peers, give the peers the rows they need and the rounds the rest."""
        if not self.rounds.display:
            self.peers.styles.clear_rule("height")
            return
        room = self.peers.outer_size.height + self.rounds.outer_size.height
        wanted = len(self.state.peers) + FRAME_ROWS
        rows = max(FRAME_ROWS + 2, min(wanted, room - LEAST_ROUND_ROWS - FRAME_ROWS))
        height = self.peers.styles.height
        if room and (height is None or height.cells != rows):
            self.peers.styles.height = rows

    def _draw_table(self) -> None:
        self.rounds.set_columns(views.columns(self.state, views.ROUND_COLUMNS))
        self.rounds.set_rows(views.round_rows(self.state, self.session.glyphs, LAST_ROUNDS))

    def _draw_charts(self) -> None:
        """Draw the chart of the chosen metric; below it, where there is room, the loss or the primary one."""
        state = self.state
        self.set_class(not views.has_loss(state), "-lossless")
        first = self._metric if self._metric in views.metrics_of(state) else state.primary
        self._draw_chart(self.metric, first)
        if self.loss.display:
            self._draw_chart(self.loss, state.primary if first == "loss" else "loss")

    def _draw_chart(self, chart: Chart, metric: str) -> None:
        chart.show_values(
            self._chart_data.get(self.state, metric, over_time=self._over_time, chosen=self.session.chosen)
        )

    def on_chart_pointed(self, message: Chart.Pointed) -> None:
        """Let the other chart show the same round."""
        for chart in (self.metric, self.loss):
            if chart is not message.chart:
                chart.point(message.x, is_pinned=message.chart.is_pinned)

    def action_cursor(self, step: int) -> None:
        """Move the cursor of the charts."""
        self.metric.action_cursor(step)

    def action_metric(self) -> None:
        """Show the next metric."""
        names = views.metrics_of(self.state)
        here = names.index(self._metric) if self._metric in names else 0
        self._metric = names[(here + 1) % len(names)]
        self._draw_charts()

    def action_enlarge(self) -> None:
        """Give the first chart the whole screen, or let the other panels appear again."""
        self.toggle_class("-enlarged")
        (self.metric if self.has_class("-enlarged") else self.peers).focus()
        self.call_after_refresh(self.draw, everything=True)

    def action_time(self) -> None:
        """Switch between rounds and time."""
        self._over_time = not self._over_time
        self._draw_charts()

    def action_scale(self) -> None:
        """Switch the scale of the charts of a loss; without any, that of the first chart."""
        charts = [chart for chart in (self.metric, self.loss) if chart.display and chart.shows_loss]
        for chart in charts or [self.metric]:
            chart.action_scale()

    def action_choose(self) -> None:
        """Show the curve of the selected peer, or no longer."""
        self.choose_peer()
        self._draw_charts()

    def action_choose_extremes(self) -> None:
        """Show the curves of the best and the worst peer; if any are shown, none."""
        self.session.chosen = () if self.session.chosen else views.best_and_worst(self.state)
        self._draw_charts()

    def action_copy_join(self) -> None:
        """Copy the command line with which another device joins."""
        if not self.state.run:
            command = views.join_command(self.session.own_address)
            self.app.copy_to_clipboard(command)
            self.notify(command, title="Copied", markup=False)

    def on_live_table_opened(self, message: LiveTable.Opened) -> None:
        """Open the selected peer or round."""
        if message.table is self.rounds:
            self.post_message(ShowRound(int(message.key)))
        else:
            self.post_message(ShowPeer(message.key))

    def selected_peer(self) -> str | None:
        """Return the name of the selected peer."""
        return self.peers.cursor_key
