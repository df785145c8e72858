"""The help: all keys, read from the bindings, and the symbols."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.symbols import MARKS, PROVISIONAL, SYMBOLS, Glyphs, MarkKind
from tui.theme import palette_of
from tui.widgets.chart import Chart
from tui.widgets.paint import painted

KEY_NAMES = {
    "question_mark": "?",
    "slash": "/",
    "plus,equals_sign": "+",
    "minus": "-",
    "full_stop": ".",
    "comma": ",",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "escape": "esc",
    "left": "←",
    "right": "→",
}
"""How keys are shown whose Textual names are words."""


class HelpScreen(ModalScreen[None]):
    """Keys and symbols."""

    BINDINGS: ClassVar = [
        ("escape", "dismiss", "Back"),
        ("question_mark", "dismiss", "Back"),
        ("q", "dismiss", "Back"),
    ]

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs

    def compose(self) -> ComposeResult:
        """Put all keys and symbols into one text."""
        with VerticalScroll(id="help", classes="panel") as around:
            around.border_title = "Keys"
            yield Static(painted(self._text(), palette_of(self.app.current_theme)))

    def _text(self) -> Text:
        stack = self.app.screen_stack
        text = Text()
        text.append("Everywhere\n", style="bold")
        for key, what in self._rows(self.app.BINDINGS):
            text.append(f"  {key:<8} {what}\n")
        under = next((one for one in reversed(stack) if one is not self), None)
        if under is not None and (rows := list(self._rows(type(under).BINDINGS))):
            text.append("\nOn this screen\n", style="bold")
            for key, what in rows:
                text.append(f"  {key:<8} {what}\n")
        text.append("\nIn tables\n", style="bold")
        text.append("  ↑ ↓      select      enter    open\n  home end  first, last\n")
        if under is not None and under.query(Chart):
            text.append("\nOn a chart (tab moves there, a click fixes the cursor)\n", style="bold")
            for key, what in self._rows(Chart.BINDINGS):
                text.append(f"  {key:<8} {what}\n")
            self._add_marks(text, "\nMarks on the charts\n", (kind for kind in MARKS if kind != "commit"))
        text.append("\nWhat a peer is doing\n", style="bold")
        for symbol in SYMBOLS.values():
            mark = symbol.ascii if self._glyphs.is_ascii else symbol.mark
            text.append(f"  {mark} ", style=symbol.style_name).append(f"{symbol.text}\n")
        if self.app.check_action("replay_round", ()):
            self._add_marks(text, "\nOn the bar of a replay\n", MARKS)
        text.append("\nNumbers\n", style="bold")
        text.append(
            f"  {PROVISIONAL} reported, not committed: it changes if a member leaves before the commit\n"
        )
        return text

    def _add_marks(self, text: Text, title: str, kinds: Iterable[MarkKind]) -> None:
        text.append(title, style="bold")
        for kind in kinds:
            symbol = MARKS[kind]
            mark = symbol.ascii if self._glyphs.is_ascii else symbol.mark
            text.append(f"  {mark} ", style=symbol.style_name).append(f"{symbol.text}\n")

    def _rows(self, bindings: Iterable[object]) -> Iterable[tuple[str, str]]:
        for binding in bindings:
            if isinstance(binding, Binding):
                key, action, what, show = binding.key, binding.action, binding.description, binding.show
            elif isinstance(binding, tuple) and len(binding) == 3:
                key, action, what = binding
                show = True
            else:
                continue
            name = action.partition("(")[0].removeprefix("app.")
            if show and what and self.app.check_action(name, ()) is not False:
                yield KEY_NAMES.get(key, key), what
