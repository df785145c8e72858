"""The tables of peers and of rounds, as large as the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.widget import Widget
from textual.widgets import Input

from p2pfl.observe.state import Section
from tui import views
from tui.screens.base import BaseScreen, ShowPeer, ShowRound
from tui.session import Session
from tui.widgets.paint import entitle
from tui.widgets.table import Column, LiveTable


class _TableScreen(BaseScreen):
    """One table, with a line to filter it by."""

    KEYS = (("enter", "open"), ("/", "filter"), ("s", "sort"))
    BINDINGS: ClassVar = [
        ("slash", "filter", "Filter; ! in front inverts"),
        ("escape", "unfilter", "All rows"),
        ("s", "sort(1)", "Sort by the next column"),
        ("S", "sort(-1)", "Sort by the column before"),
    ]
    COLUMNS: ClassVar[tuple[Column, ...]] = views.PEER_COLUMNS

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.table = LiveTable(self.COLUMNS, id="table", classes="panel")
        self.filter = Input(id="filter", placeholder="text to look for; ! in front leaves it out")
        self._sorted_by = -1

    def body(self) -> Sequence[Widget]:
        """Return the table and the filter, which is hidden at first."""
        return (self.table, self.filter)

    def on_mount(self) -> None:
        """Put the cursor into the table."""
        super().on_mount()
        self.filter.display = False
        self.table.focus()

    def action_filter(self) -> None:
        """Ask for a text that rows must have."""
        self.filter.display = True
        self.filter.focus()

    def action_unfilter(self) -> None:
        """Show all rows again."""
        self.filter.value = ""
        self.filter.display = False
        self.table.filter("")
        self.table.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        self.table.filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go back into the table, which stays filtered."""
        del event
        self.table.focus()

    def action_sort(self, step: int) -> None:
        """Sort by another column; after the last one the order is the usual one."""
        keys = ["", *(column.key for column in self.COLUMNS)]
        self._sorted_by = (self._sorted_by + 1 + step) % len(keys) - 1
        key = keys[self._sorted_by + 1]
        self.table.sort_by(key)
        self.table.border_subtitle = f"sorted by {key}" if key else ""


class PeersScreen(_TableScreen):
    """All peers."""

    NUMBER = "2"
    SECTIONS = ("peers", "run", "open", "traffic", "rounds")

    def draw_body(self, changed: set[Section]) -> None:
        """Draw the table: ages change with every tick."""
        del changed
        self.table.glyphs = self.session.glyphs
        entitle(self.table, f"Peers {len(self.state.peers)}")
        self.table.set_rows(views.peer_rows(self.state, self.session.now(), self.session.glyphs))

    def on_live_table_opened(self, message: LiveTable.Opened) -> None:
        """Open a peer."""
        self.post_message(ShowPeer(message.key))

    def selected_peer(self) -> str | None:
        """Return the selected peer's name."""
        return self.table.cursor_key


class RoundsScreen(_TableScreen):
    """All rounds that are kept."""

    NUMBER = "3"
    SECTIONS = ("rounds", "open", "run")
    COLUMNS = views.ROUND_COLUMNS

    def draw_body(self, changed: set[Section]) -> None:
        """Draw the table, once a round or so."""
        if changed:
            self.table.glyphs = self.session.glyphs
            entitle(self.table, f"Rounds {self.state.trained} of {self.state.target_rounds}")
            self.table.set_rows(views.round_rows(self.state, self.session.glyphs))

    def on_live_table_opened(self, message: LiveTable.Opened) -> None:
        """Open a decided round."""
        if self.state.rounds.get(int(message.key)) is not None:
            self.post_message(ShowRound(int(message.key)))
