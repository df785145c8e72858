"""The screens with the table of all peers and the table of all rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Input

from p2pfl.observe.state import Section
from tui import views
from tui.screens.base import BaseScreen, ShowPeer, ShowRound
from tui.screens.detail import PeerPanels
from tui.session import Session
from tui.widgets.paint import set_title
from tui.widgets.table import Column, LiveTable

SPLIT_WIDTH = 140
"""From this width on the details of the selected peer are beside the table."""


class _TableScreen(BaseScreen):
    """One table with a filter."""

    KEYS = (("enter", "open"), ("/", "filter"), ("s", "sort"))
    BINDINGS: ClassVar = [
        ("slash", "filter", "Filter; ! in front inverts"),
        ("escape", "unfilter", "All rows"),
        ("s", "sort(1)", "Sort by the next column"),
        ("S", "sort(-1)", "Sort by the column before"),
    ]
    COLUMNS: ClassVar[tuple[Column, ...]] = views.PEER_COLUMNS
    SEARCHED: ClassVar[tuple[str, ...]] = ("name",)
    """Columns that the filter looks into."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.table = LiveTable(self.COLUMNS, searched=self.SEARCHED, id="table", classes="panel")
        self.filter = Input(id="filter", placeholder="name to look for; ! in front leaves it out")
        self._sorted_by = -1

    def body(self) -> Sequence[Widget]:
        """Return the table and the filter, which is hidden at first."""
        return (self.table, self.filter)

    def on_mount(self) -> None:
        """Hide the filter and focus the table."""
        super().on_mount()
        self.filter.display = False
        self.table.focus()

    def action_filter(self) -> None:
        """Show the filter."""
        self.filter.display = True
        self.filter.focus()

    def action_unfilter(self) -> None:
        """Remove the filter."""
        self.filter.value = ""
        self.filter.display = False
        self.table.filter("")
        self.table.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while the user types."""
        self.table.filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Move the focus back to the table, which stays filtered."""
        del event
        self.table.focus()

    def action_sort(self, step: int) -> None:
        """Sort by another column; after the last one restore the default order."""
        columns = views.columns(self.state, self.COLUMNS)
        keys = ["", *(column.key for column in columns)]
        self._sorted_by = (self._sorted_by + 1 + step) % len(keys) - 1
        key = keys[self._sorted_by + 1]
        self.table.sort_by(key)
        name = self.state.primary if key == "primary" else key
        self.table.border_subtitle = f"sorted by {name}" if key else ""


class PeersScreen(_TableScreen):
    """All peers; where there is room, the details of the selected one beside them."""

    NUMBER = "2"
    SECTIONS = ("peers", "run", "open", "traffic", "rounds")
    COLUMNS = views.WIDE_PEER_COLUMNS
    KEYS_MORE = (("c", "metric"), ("a", "add curve"))
    BINDINGS: ClassVar = [
        *_TableScreen.BINDINGS,
        ("c", "metric", "Chart beside the table: the next metric"),
        ("L", "scale", "Chart on a linear or logarithmic scale"),
        ("a", "choose", "Charts of the overview: its curve, or not"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.details = PeerPanels()
        self._trends = views.PeerTrends()
        self._detailed: str | None = None

    def body(self) -> Sequence[Widget]:
        """Return the table with the filter below it, and the details beside them."""
        return (Horizontal(Vertical(self.table, self.filter, id="list"), self.details, id="split"),)

    def _fit(self) -> None:
        """Put the details beside the table where both have room."""
        super()._fit()
        self.set_class(self.size.width >= SPLIT_WIDTH and not self.is_small, "-split")
        self._detailed = None

    def draw_body(self, changed: set[Section]) -> None:
        """Draw the table and the details; ages change with every tick."""
        state, glyphs = self.state, self.session.glyphs
        self.table.glyphs = glyphs
        out = sum(peer.node in state.excluded for peer in state.peers.values())
        set_title(self.table, f"Peers {len(state.peers)}{f' · {out} kept out' if out else ''}")
        self.table.set_columns(views.columns(state, self.COLUMNS))
        self.table.set_rows(
            views.peer_rows(state, self.session.now(), glyphs, self._trends.get(state, glyphs))
        )
        self._draw_details(changed)

    def _draw_details(self, changed: set[Section]) -> None:
        name = self.table.cursor_key
        if name is None or not self.has_class("-split"):
            return
        self.details.show(self.session, name, set(self.SECTIONS) if name != self._detailed else changed)
        self._detailed = name if self.details.chart.size.width else None

    def action_metric(self) -> None:
        """Show the next metric."""
        self.details.next_metric(self.state)
        self._draw_details({"rounds"})

    def action_scale(self) -> None:
        """Switch the scale of the chart."""
        self.details.chart.action_scale()

    def action_choose(self) -> None:
        """Show the curve of the selected peer on the overview, or no longer."""
        self.choose_peer(says_so=True)

    def on_live_table_moved(self, message: LiveTable.Moved) -> None:
        """Show the details of the peer that is selected now."""
        del message
        self._draw_details(set())

    def on_live_table_opened(self, message: LiveTable.Opened) -> None:
        """Open a peer."""
        self.post_message(ShowPeer(message.key))

    def selected_peer(self) -> str | None:
        """Return the name of the selected peer."""
        return self.table.cursor_key


class RoundsScreen(_TableScreen):
    """All kept rounds."""

    NUMBER = "3"
    SECTIONS = ("rounds", "open", "run")
    COLUMNS = views.ROUND_COLUMNS
    SEARCHED = ("round", "aggregator", "note")

    def draw_body(self, changed: set[Section]) -> None:
        """Draw the table if it changed."""
        if changed:
            self.table.glyphs = self.session.glyphs
            self.table.set_columns(views.columns(self.state, self.COLUMNS))
            of = f" of {self.state.planned_rounds}" if self.state.planned_rounds else ""
            set_title(self.table, f"Rounds {self.state.trained}{of}")
            self.table.set_rows(views.round_rows(self.state, self.session.glyphs))

    def on_live_table_opened(self, message: LiveTable.Opened) -> None:
        """Open a decided round."""
        if self.state.rounds.get(int(message.key)) is not None:
            self.post_message(ShowRound(int(message.key)))
