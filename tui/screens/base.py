"""The base of all screens: header, body and line of keys, and the decision what to draw again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Container
from textual.events import Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from p2pfl.observe.connection import NodeEnded, Retrying
from p2pfl.observe.state import FINISHED_PHASES, Section, State
from tui import views
from tui.session import Session
from tui.source import Replay
from tui.symbols import Glyphs, ago, fit
from tui.theme import palette_of
from tui.widgets.header import draw_header, draw_keys
from tui.widgets.paint import are_same, fit_lines, painted, strip_of
from tui.widgets.ring import RingPicture, draw_ring
from tui.widgets.scrub import Scrub, ScrubValues

LIST_SIZE = (60, 15)
"""Below this size a screen is one column of lines."""

LINE_SIZE = (40, 10)
"""Below this size it is one line."""

WIDE_SIZE = (100, 30)
"""From this size on panels are side by side."""

HUGE_SIZE = (170, 40)
"""From this size on everything fits."""

SHORT = 22
"""On screens with fewer lines panels are flatter."""

LOW = 36
"""On screens with fewer lines panels side by side are flatter."""

SIZES = ("-line", "-list", "-narrow", "-wide", "-huge")
"""CSS classes by screen size, the smallest first."""


class ShowPeer(Message):
    """A screen asks the app to show one peer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class ShowRound(Message):
    """A screen asks the app to show one round."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Lines(Widget):
    """A panel of lines of text; only those that changed are drawn again."""

    DEFAULT_CSS = "Lines { height: auto; text-wrap: nowrap; text-overflow: ellipsis; }"

    _lines: Sequence[Text] = ()

    def show(self, lines: Sequence[Text], *, grows: bool = False) -> None:
        """Show *lines* as far as they fit; with *grows* the panel grows. Unchanged lines cost nothing.

        A long line is continued on the next one where there is room below, and else shortened by words.
        """
        width, height = self.content_size
        before, self._lines = self._lines, lines if grows else fit_lines(lines, width, height)
        pairs = zip_longest(before, self._lines)
        changed = [y for y, (one, other) in enumerate(pairs) if not are_same(one, other)]
        if changed and (grows or not width):
            self.refresh(layout=grows)
        elif regions := [Region(0, y, width, 1) for y in changed if y < height]:
            self.refresh(*regions)  # without a region, Textual would draw all

    def render(self) -> Text:
        """Return all lines, for Textual's selection of text."""
        return painted(Text("\n").join(self._lines), palette_of(self.app.current_theme))

    def render_line(self, y: int) -> Strip:
        """Return one line of the content."""
        if self.text_selection is not None:
            return super().render_line(y)
        width, base = self.size.width, self.visual_style.rich_style
        if y >= len(self._lines):
            return Strip.blank(width, base)
        line = self._lines[y]
        if line.cell_len > width:
            line = line.copy()
            line.truncate(width, overflow="ellipsis")
        strip = strip_of(line, width, base, self.app.console, palette_of(self.app.current_theme))
        return strip.apply_offsets(0, y)


class RingPanel(Lines):
    """A panel with the federation as a picture, which is drawn again only when it changed."""

    _drawn: tuple[RingPicture, Size, Glyphs] | None = None

    def show(self, lines: Sequence[Text], *, grows: bool = False) -> None:
        """Show *lines* instead of a picture."""
        self._drawn = None
        super().show(lines, grows=grows)

    def show_ring(self, picture: RingPicture, glyphs: Glyphs) -> None:
        """Show *picture*; an unchanged one costs nothing."""
        values = (picture, self.content_size, glyphs)
        if values != self._drawn:
            self.show(draw_ring(picture, *self.content_size, glyphs))
            self._drawn = values


class BaseScreen(Screen[None]):
    """A screen that draws what changed since it was last drawn."""

    SECTIONS: ClassVar[tuple[Section, ...]] = ("run", "peers", "rounds", "open", "log", "traffic")
    """Sections of the state that it draws."""
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Its own keys, for the line of keys."""
    KEYS_MORE: ClassVar[tuple[tuple[str, str], ...]] = ()
    """More of them, where there is room beside the keys of all screens."""
    KEYS_BEFORE: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Its own keys before there is a run."""
    NUMBER = ""
    """The key of the screen, or of the one that it shows details of."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._drawn: Counter[str] = Counter()
        self._drawn_state: State | None = None

    @property
    def state(self) -> State:
        """The state of the observed node."""
        return self.session.state

    def compose(self) -> ComposeResult:
        """Put header, body and line of keys below each other."""
        yield Lines(id="header")
        with Container(id="body"):
            yield from self.body()
        yield Lines(id="small")
        if isinstance(self.session.source, Replay):
            yield Scrub(id="scrub")
        yield Lines(id="keys")

    def body(self) -> Sequence[Widget]:
        """Return the widgets of the body."""
        return ()

    def on_mount(self) -> None:
        """Draw everything once."""
        self._fit()
        self.draw(everything=True)

    def on_screen_resume(self) -> None:
        """Draw what happened while another screen was visible."""
        self.draw(everything=True)

    def on_resize(self, event: Resize) -> None:
        """Lay out for the new size."""
        del event
        self._fit()
        self.call_after_refresh(self.draw, everything=True)

    def _fit(self) -> None:
        """Set the CSS classes for the size."""
        height = self.size.height
        flat = [name for name, least in (("-short", SHORT), ("-low", LOW)) if height < least]
        self.set_classes([self.size_class(), *flat])
        self.set_class(self.session.is_stale, "-stale")
        self.set_class(isinstance(self.session.source, Replay), "-replay")

    def size_class(self) -> str:
        """Return the CSS class for the size."""
        width, height = self.size
        name: str
        for name, (least_width, least_height) in zip(
            reversed(SIZES[1:]), (HUGE_SIZE, WIDE_SIZE, LIST_SIZE, LINE_SIZE), strict=True
        ):
            if width >= least_width and height >= least_height:
                return name
        return SIZES[0]

    @property
    def is_small(self) -> bool:
        """Whether only lines fit."""
        return self.has_class("-list") or self.has_class("-line")

    # --- drawing ----------------------------------------------------------------------

    def draw(self, *, everything: bool = False) -> None:
        """Draw what has changed, or *everything*."""
        if not self.is_mounted:
            return
        state = self.state
        if state is not self._drawn_state:
            self._drawn_state, everything = state, True
        changed = {
            section
            for section in self.SECTIONS
            if everything or state.versions[section] != self._drawn[section]
        }
        if everything:
            for widget in self.walk_children():
                widget.refresh()
        self._drawn = Counter(state.versions)
        self.set_class(self.session.is_stale, "-stale")
        self._draw_frame()
        if self.is_small:
            self._draw_small()
        else:
            self.draw_body(changed)

    def draw_body(self, changed: set[Section]) -> None:
        """Draw the body, for the sections that *changed*."""

    def _draw_frame(self) -> None:
        now, width = self.session.now(), self.size.width
        header = self.query_one("#header", Lines)
        lines = [self._top(now, width)]
        if self.has_class("-wide") or self.has_class("-huge"):
            lines.append(_tabs(TABS, self.NUMBER, self.session.attached, width))
        header.show(lines)
        self.query_one("#keys", Lines).show([draw_keys(self._keys(width), width)])
        if isinstance(self.session.source, Replay):
            self._draw_scrub(self.session.source)

    def _draw_scrub(self, replay: Replay) -> None:
        state = self.state
        of = f"/{state.planned_rounds}" if state.planned_rounds else ""
        number = f"r{state.trained}{of}" if state.run else ""
        values = ScrubValues(
            replay.position, replay.seconds, replay.speed, replay.paused, replay.marks, number
        )
        self.query_one(Scrub).show(values, self.session.glyphs)

    def _top(self, now: float, width: int) -> Text:
        """Return the header: the run, or the problem with the connection."""
        connection = self.session.connection
        if isinstance(connection, Retrying) and not connection.number:
            line = Text(
                f" {self.session.glyphs.empty} connecting to {self.session.source.text}", style="quiet"
            )
        elif isinstance(connection, Retrying):
            left = max(0.0, connection.at - now)
            data = f" · data of {ago(now - self.state.time)} ago" if self.state.time else ""
            line = Text(
                f" {self.session.glyphs.late} NO CONNECTION to {self.session.source.text} · "
                f"retry {connection.number} in {left:.0f}s{data} · {connection.reason}",
                style="bad",
            )
        elif isinstance(connection, NodeEnded) and self.state.phase not in FINISHED_PHASES:
            line = Text(f" {self.session.glyphs.late} ENDED · {connection.reason}", style="bad")
        else:
            badge = self.session.problems - self.session.seen_problems
            is_wide = self.has_class("-wide") or self.has_class("-huge")
            values = views.header(self.state, "" if is_wide else self.session.attached)
            return draw_header(values, width, self.session.glyphs, problems=badge)
        line.truncate(max(1, width), overflow="ellipsis")
        return line

    def _keys(self, width: int) -> list[tuple[str, str]]:
        session = self.session
        keys: list[tuple[str, str]] = []
        if isinstance(session.source, Replay):
            keys += [("space", "hold"), ("+/-", "speed"), ("[/]", "round"), (",/.", "seek")]
        if isinstance(session.connection, Retrying):
            keys.append(("r", "retry now"))
        if not (self.has_class("-wide") or self.has_class("-huge")):
            keys.append(("1-5", "screens"))
        keys += self.KEYS if self.state.run else self.KEYS_BEFORE
        if session.may("start") and not self.state.run:
            keys.append(("g", "start"))
        if not self.state.run and session.allows("doctor"):
            keys.append(("d", "check"))
        if session.may("pause") and session.has_open_run:
            keys.append(("p", "resume" if self.state.phase == "paused" else "pause"))
        if session.demo is not None:
            keys.append(("k", "kill/start"))
        if width >= WIDE_SIZE[0]:
            if session.may("stop") and session.has_open_run:
                keys.append(("x", "stop"))
            if session.may("save") and self.state.trained:
                keys.append(("w", "save model"))
            keys += self.KEYS_MORE if self.state.run else ()
            general = [*([("e", "export")] if session.writes_files else []), ("t", "theme")]
            keys += [key for key in general if key not in keys]
        return [*keys, ("?", "help"), ("^p", "commands"), ("q", "detach")]

    def _draw_small(self) -> None:
        """Draw a screen on which only lines fit."""
        state, now, glyphs = self.state, self.session.now(), self.session.glyphs
        if self.has_class("-line"):
            self.query_one("#small", Lines).show([])
            return
        lines = [views.open_line(state, now, glyphs)]
        room = max(1, self.size.height - 4)
        for row in views.peer_rows(state, now, glyphs)[: room // 2]:
            cells = row.cells
            line = Text(f"{fit(str(cells['name']), 14)} ")
            line.append(str(cells["activity"]))
            line.append(f" {cells['round']} {cells['primary']}")
            lines.append(line)
        rest = room - len(lines)
        if rest > 0:
            lines += [views.log_line(row, self.size.width - 2, glyphs) for row in list(state.log)[-rest:]]
        self.query_one("#small", Lines).show(lines)

    def selected_peer(self) -> str | None:
        """Return the name of the selected peer, if any."""
        return None

    def choose_peer(self, *, says_so: bool = False) -> None:
        """Add the selected peer to those whose curves the charts of the overview show, or remove it."""
        name = self.selected_peer()
        chosen = [one for one in self.session.chosen if one in self.state.peers]  # others left no row
        if name is None or name == self.state.name:
            return  # its curve is always there
        if name not in chosen and len(chosen) == views.MOST_CHOSEN:
            self.notify(f"charts show at most {len(chosen)} peers: remove one of them with a", markup=False)
            return
        others = (one for one in chosen if one != name)
        self.session.chosen = tuple(others) if name in chosen else (*chosen, name)
        if says_so:
            does = "no longer show" if name in chosen else "show"
            who = views.display_name(name)
            self.notify(f"the charts of the overview {does} the curve of {who}", markup=False)


TABS = (("1", "Overview"), ("2", "Peers"), ("3", "Rounds"), ("4", "Network"), ("5", "Log"))
"""The five screens."""


def _tabs(tabs: Sequence[tuple[str, str]], active: str, attached: str, width: int) -> Text:
    line = Text(" ")
    for key, label in tabs:
        text = f"[{key} {label}]" if key == active else f" {key} {label} "
        line.append(text, style="bold reverse" if key == active else "")
        line.append(" ")
    right = f"{attached} "
    room = width - line.cell_len - len(right)
    if room > 0:
        line.append(" " * room).append(right, style="dim")
    return line
