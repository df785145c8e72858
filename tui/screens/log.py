"""The log screen: a line for each notable event, with search and filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.widget import Widget
from textual.widgets import Input

from p2pfl.observe.render import LogRow
from p2pfl.observe.state import Section
from tui import views
from tui.screens.base import BaseScreen
from tui.session import Session
from tui.widgets.log import LogView
from tui.widgets.paint import set_title

LEVELS: tuple[tuple[str, frozenset[str]], ...] = (
    ("all", frozenset({"info", "good", "warning", "error"})),
    ("warnings and errors", frozenset({"warning", "error"})),
    ("errors", frozenset({"error"})),
)
"""The choices of levels that a key switches between."""


class LogScreen(BaseScreen):
    """The node's log."""

    NUMBER = "5"
    SECTIONS = ("log",)
    KEYS = (("/", "search"), ("v", "level"), ("o", "peer"), ("space", "hold"))
    BINDINGS: ClassVar = [
        ("slash", "search", "Search; ! in front inverts"),
        ("escape", "clear", "Everything"),
        ("v", "level", "Level: all, warnings, errors"),
        ("o", "peer", "Only one peer"),
        ("space", "hold", "Hold, or follow"),
        ("y", "copy", "Copy the lines shown"),
    ]

    def __init__(self, session: Session, peer: str = "") -> None:
        super().__init__(session)
        self._level = 0
        self._peer = peer
        self._text = ""
        self.view = LogView(id="view", classes="panel")
        self.search = Input(id="filter", placeholder="text to look for; ! in front leaves it out")

    def body(self) -> Sequence[Widget]:
        """Return the lines and the search, which is hidden at first."""
        return (self.view, self.search)

    def on_mount(self) -> None:
        """Hide the search; the log starts at its end."""
        super().on_mount()
        self.search.display = False
        self.view.focus()

    def on_screen_resume(self) -> None:
        """Mark all problems as seen."""
        self.session.seen_problems = self.session.problems
        super().on_screen_resume()

    def draw_body(self, changed: set[Section]) -> None:
        """Draw new lines."""
        self.session.seen_problems = self.session.problems
        self.view.border_subtitle = "" if self.view.follows else "held · End: follow again"
        if not changed:
            return
        shown = [row for row in self.state.log if self._wants(row)]
        self.view.show(shown, lambda row, width: views.log_line(row, width, self.session.glyphs))
        level, of = LEVELS[self._level][0], f"{len(shown):,} of {len(self.state.log):,}"
        peer = f" · peer {views.display_name(self._peer)}" if self._peer else ""
        text = f" · text {self._text}" if self._text else ""
        set_title(self.view, f"Log {of} · level {level}{peer}{text}")

    def _wants(self, row: LogRow) -> bool:
        if row.level not in LEVELS[self._level][1] or (self._peer and row.peer != self._peer):
            return False
        text = self._text.removeprefix("!").lower()
        return not text or (text in row.text.lower()) != self._text.startswith("!")

    def _redraw(self) -> None:
        self.draw(everything=True)

    def action_search(self) -> None:
        """Show the search."""
        self.search.display = True
        self.search.focus()

    def action_clear(self) -> None:
        """Remove all filters."""
        self._level, self._peer, self._text = 0, "", ""
        self.search.value = ""
        self.search.display = False
        self.view.focus()
        self._redraw()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search while the user types."""
        self._text = event.value
        self._redraw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Move the focus back to the lines."""
        del event
        self.view.focus()

    def action_level(self) -> None:
        """Switch to the next choice of levels."""
        self._level = (self._level + 1) % len(LEVELS)
        self._redraw()

    def action_peer(self) -> None:
        """Show only lines about the next peer; after the last peer show all lines."""
        names = ["", *sorted(self.state.peers)]
        here = names.index(self._peer) if self._peer in names else 0
        self._peer = names[(here + 1) % len(names)]
        self._redraw()

    def action_hold(self) -> None:
        """Hold the lines, or follow the newest."""
        self.view.follows = not self.view.follows
        self._redraw()

    def action_copy(self) -> None:
        """Copy the visible lines."""
        rows = self.view.visible_rows()
        self.app.copy_to_clipboard("\n".join(row.text for row in rows))
        self.notify(f"{len(rows)} lines copied")
