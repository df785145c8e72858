"""The network screen: round-trip times and traffic of the observed node's links."""

from __future__ import annotations

from collections.abc import Sequence

from textual.containers import VerticalScroll
from textual.widget import Widget

from p2pfl.observe.state import Section
from tui import views
from tui.screens.base import BaseScreen, Lines
from tui.session import Session


class NetworkScreen(BaseScreen):
    """Links and transfers."""

    NUMBER = "4"
    SECTIONS = ("traffic", "peers", "open", "run")

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.links = Lines(id="links")
        self._count = 0
        self.open_round = Lines(id="moving", classes="panel")
        self.links_panel = VerticalScroll(self.links, id="around", classes="panel")

    def body(self) -> Sequence[Widget]:
        """Return the links above the open round."""
        return (self.links_panel, self.open_round)

    def on_mount(self) -> None:
        """Set the titles of the panels."""
        super().on_mount()
        self.links_panel.border_title, self.open_round.border_title = "Links of this node", "Round"

    def draw_body(self, changed: set[Section]) -> None:
        """Draw both panels."""
        session, now = self.session, self.session.now()
        lines = views.network_lines(self.state, now, session.glyphs)
        self.links.show(lines, grows=len(lines) != self._count or len(changed) == len(self.SECTIONS))
        self._count = len(lines)
        self.open_round.show(views.open_lines(self.state, now, session.glyphs, self.open_round.size.width))
