"""The network screen: the federation as a picture, the links of the observed node, what nodes did."""

from __future__ import annotations

from collections.abc import Sequence

from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget

from p2pfl.observe.state import FINISHED_PHASES, Section
from tui import views
from tui.screens.base import BaseScreen, Lines, RingPanel
from tui.session import Session
from tui.widgets.paint import fit_lines, set_title
from tui.widgets.table import FAR

BORDERS = 2
"""Lines of a panel besides its content."""


class NetworkScreen(BaseScreen):
    """The federation, links, transfers, and the log of the nodes."""

    NUMBER = "4"
    SECTIONS = ("traffic", "peers", "open", "run", "log")

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.ring = RingPanel(id="ring", classes="panel")
        self.links = Lines(id="links")
        self._count = 0
        """Lines about links."""
        self.open_round = Lines(id="moving", classes="panel")
        self.links_panel = VerticalScroll(self.links, id="around", classes="panel")
        self.happened = Lines(id="happened", classes="panel")

    def body(self) -> Sequence[Widget]:
        """Return the picture and the open round, and links and log beside them; on a narrow screen below."""
        left = Vertical(self.ring, self.open_round, id="picture")
        return (Horizontal(left, Vertical(self.links_panel, self.happened, id="beside"), id="network"),)

    def on_mount(self) -> None:
        """Set the titles of the panels."""
        super().on_mount()
        self.ring.border_title = "Federation"
        self.links_panel.border_title, self.happened.border_title = "Links of this node", "Log of the nodes"

    def draw_body(self, changed: set[Section]) -> None:
        """Draw the panels."""
        session, state, now = self.session, self.state, self.session.now()
        picture = views.ring(state, now, session.glyphs)
        self.ring.show_ring(picture, session.glyphs)
        width = self.links_panel.scrollable_content_region.width
        lines = fit_lines(views.network_lines(state, now, session.glyphs, width=width), width, FAR)
        self.links.show(lines, grows=len(lines) != self._count or len(changed) == len(self.SECTIONS))
        self._lay_out(len(lines))
        if self.open_round.display:
            is_over = state.phase in FINISHED_PHASES
            set_title(self.open_round, "Result" if is_over else "Round")
            room = self.open_round.content_size.width
            self.open_round.show(
                views.finale_lines(state, session.glyphs, (), room)
                if is_over
                else views.open_lines(state, now, session.glyphs, room)
            )
        if self.happened.display and "log" in changed:
            width, height = self.happened.content_size
            rows = [row for row in reversed(state.log) if row.peer or row.level in ("warning", "error")][
                :height
            ]
            self.happened.show([views.log_line(row, width, session.glyphs) for row in rows])

    def _lay_out(self, count: int) -> None:
        """Give *count* links their room, and the open round one if there is a run."""
        is_beside = self.has_class("-wide") or self.has_class("-huge")
        height = count + BORDERS if is_beside else "1fr"
        is_before = not self.state.run
        if (count, is_before) != (self._count, self.has_class("-before")):
            self.call_after_refresh(self.draw, everything=True)  # other panels have other sizes then
        self._count = count
        self.links.styles.height = count
        self.links_panel.styles.height = height
        self.set_class(is_before, "-before")
