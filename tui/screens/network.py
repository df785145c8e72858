"""The network screen: the federation as a picture, and the links of the observed node."""

from __future__ import annotations

from collections.abc import Sequence

from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget

from p2pfl.observe.state import Section
from tui import views
from tui.screens.base import BaseScreen, Lines, RingPanel
from tui.session import Session
from tui.widgets.paint import fit_lines
from tui.widgets.table import FAR


class NetworkScreen(BaseScreen):
    """The federation, links and transfers."""

    NUMBER = "4"
    SECTIONS = ("traffic", "peers", "open", "run")

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.ring = RingPanel(id="ring", classes="panel")
        self.links = Lines(id="links")
        self._count = 0
        self.open_round = Lines(id="moving", classes="panel")
        self.links_panel = VerticalScroll(self.links, id="around", classes="panel")

    def body(self) -> Sequence[Widget]:
        """Return the picture, and beside it (below it on a narrow screen) links and the open round."""
        return (
            Horizontal(self.ring, Vertical(self.links_panel, self.open_round, id="beside"), id="network"),
        )

    def on_mount(self) -> None:
        """Set the titles of the panels."""
        super().on_mount()
        self.ring.border_title, self.open_round.border_title = "Federation", "Round"
        self.links_panel.border_title = "Links of this node"

    def draw_body(self, changed: set[Section]) -> None:
        """Draw the panels."""
        session, state, now = self.session, self.state, self.session.now()
        picture = views.ring(state, now, session.glyphs)
        self.ring.show_ring(picture, session.glyphs)
        width = self.links_panel.scrollable_content_region.width
        lines = fit_lines(views.network_lines(state, now, session.glyphs, width=width), width, FAR)
        self.links.show(lines, grows=len(lines) != self._count or len(changed) == len(self.SECTIONS))
        self._count = len(lines)
        if self.open_round.display:
            self.open_round.show(views.open_lines(state, now, session.glyphs, self.open_round.size.width))
