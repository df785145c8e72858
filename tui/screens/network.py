"""The links of the observed node: how far away its peers are, and what moves."""

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
        self.moving = Lines(id="moving", classes="panel")
        self.around = VerticalScroll(self.links, id="around", classes="panel")

    def body(self) -> Sequence[Widget]:
        """Return the links above the open round."""
        return (self.around, self.moving)

    def on_mount(self) -> None:
        """Name the panels."""
        super().on_mount()
        self.around.border_title, self.moving.border_title = "Links of this node", "Round"

    def draw_body(self, changed: set[Section]) -> None:
        """Draw both."""
        session, now = self.session, self.session.now()
        lines = views.network_lines(self.state, now, session.glyphs)
        self.links.show(lines, grows=len(lines) != self._count or len(changed) == len(self.SECTIONS))
        self._count = len(lines)
        self.moving.show(views.open_lines(self.state, now, session.glyphs, self.moving.size.width))
