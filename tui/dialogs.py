"""Questions: a choice with its consequence, and a file to write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

EXPORTS = ("csv", "jsonl", "svg")
"""Kinds of files rounds can be written to."""


class ConfirmDialog(ModalScreen[str | None]):
    """Asks which of some choices is meant; None is no."""

    BINDINGS: ClassVar = [("escape", "dismiss(None)", "No"), ("n", "dismiss(None)", "No")]

    def __init__(self, title: str, text: str, choices: Sequence[tuple[str, str]]) -> None:
        """Show *text*, and a button for each of *choices*: its label and what is returned."""
        super().__init__()
        self._title = title
        self._text = text
        self._choices = choices

    def compose(self) -> ComposeResult:
        """Put the question above its buttons; the harmless one has the focus."""
        with Vertical(classes="dialog") as around:
            around.border_title = self._title
            yield Static(self._text, markup=False)
            with Horizontal(classes="buttons"):
                yield Button("No, go back", id="none", variant="primary")
                for number, (label, _) in enumerate(self._choices):
                    yield Button(label, id=f"choice-{number}", variant="warning")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Return what was chosen."""
        name = event.button.id or ""
        self.dismiss(None if name == "none" else self._choices[int(name.removeprefix("choice-"))][1])


class ExportDialog(ModalScreen[str | None]):
    """Asks for the file to write rounds to; None is none."""

    BINDINGS: ClassVar = [("escape", "dismiss(None)", "No")]

    def __init__(self, stem: str) -> None:
        """Propose files that begin with *stem*."""
        super().__init__()
        self._stem = stem

    def compose(self) -> ComposeResult:
        """Put a button for each kind below the file's name."""
        with Vertical(classes="dialog") as around:
            around.border_title = "Export the rounds"
            yield Static("The ending says what is written: .csv, .jsonl, or .svg for a plot.", markup=False)
            yield Input(f"{self._stem}.csv", id="path")
            with Horizontal(classes="buttons"):
                for kind in EXPORTS:
                    yield Button(kind.upper(), id=f"kind-{kind}")
                yield Button("Write", id="write", variant="primary")
                yield Button("Back", id="none")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Change the ending, write, or go back."""
        path = self.query_one("#path", Input)
        name = event.button.id or ""
        if name.startswith("kind-"):
            stem = path.value.rpartition(".")[0] or path.value
            path.value = f"{stem}.{name.removeprefix('kind-')}"
        else:
            self.dismiss(path.value if name == "write" and path.value else None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Write to the file that was named."""
        self.dismiss(event.value or None)
