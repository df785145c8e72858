"""The overview screen: peers, charts, rounds, network and the last log lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from textual.containers import Horizontal, Vertical
from textual.geometry import Size
from textual.widget import Widget

from p2pfl.observe.state import FINISHED_PHASES, Section
from tui import views
from tui.screens.base import BaseScreen, Lines, ShowPeer, ShowRound
from tui.session import Session
from tui.widgets.chart import Chart
from tui.widgets.paint import set_title
from tui.widgets.plot import Band, Series
from tui.widgets.ring import draw_ring
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
    KEYS = (("enter", "open"), ("c", "chart"))
    KEYS_BEFORE = (("y", "copy"),)
    BINDINGS: ClassVar = [
        ("c", "chart", "Chart: metric, loss, over time"),
        ("y", "copy_join", "Before the run: copy the line for another device"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._over_time = False
        self._shows_loss = False
        self._network_size = Size(0, 0)
        self._trends = views.PeerTrends()
        self.peers = LiveTable(views.PEER_COLUMNS, id="peers", classes="panel")
        self.metric = Chart(id="metric", classes="panel")
        self.loss = Chart(id="loss", classes="panel")
        self.round = Lines(id="round", classes="panel")
        self.round_line = Lines(id="round-line")
        self.rounds = LiveTable(views.ROUND_COLUMNS, id="rounds", classes="panel")
        self.network = Lines(id="network", classes="panel")
        self.log_lines = Lines(id="log", classes="panel")
        self.waiting = Lines(id="waiting", classes="panel")
        self.here = Lines(id="here", classes="panel")

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
            picture = views.ring(state, now, session.glyphs)
            self.here.show(draw_ring(picture, *self.here.content_size, session.glyphs))

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
            self.network.show(draw_ring(views.ring(state, now, glyphs), width, height, glyphs))
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
        self._draw_metric()
        self._draw_loss()

    def _draw_metric(self) -> None:
        """Draw the first chart; if it is the only one, it shows the primary metric or the loss."""
        is_one = not (self.has_class("-wide") or self.has_class("-huge"))
        if is_one and self._shows_loss and views.has_loss(self.state):
            self._draw(self.metric, "Loss", views.loss_series)
        else:
            self._draw(self.metric, views.chart_title(self.state.primary), views.primary_series)

    def _draw_loss(self) -> None:
        self.set_class(not views.has_loss(self.state), "-lossless")
        if self.loss.display:
            self._draw(self.loss, "Loss", views.loss_series)

    def _draw(
        self, chart: Chart, title: str, series: Callable[..., tuple[list[Series], Band | None]]
    ) -> None:
        x_kind: Literal["round", "time"] = "time" if self._over_time else "round"
        chart.show(title, *series(self.state, over_time=self._over_time), x_kind=x_kind)

    def action_chart(self) -> None:
        """Switch the chart: primary metric, loss, then both over time."""
        self._shows_loss = not self._shows_loss
        if not self._shows_loss:
            self._over_time = not self._over_time
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
