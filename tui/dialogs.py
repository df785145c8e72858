"""Dialogs: questions that name the consequence of a command, and the choice of a file to write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from p2pfl.errors import UserError
from p2pfl.observe.state import State
from p2pfl.text import plural
from tui import views
from tui.check import CheckFinding, check_lines
from tui.symbols import MAX_TEXT, Glyphs, clip
from tui.theme import palette_of
from tui.widgets.paint import painted

EXPORTS = ("csv", "jsonl", "svg")
"""Formats that rounds can be written in."""


class Question(NamedTuple):
    """A question with a button for each choice; "no" is always one more."""

    title: str
    text: str
    choices: tuple[tuple[str, str], ...]
    """The label of each button, and what the dialog returns for it."""


def stopping(state: State) -> Question:
    """Ask whether to stop the run after this round or now."""
    _, members = views.reachable(state)
    return Question(
        "Stop the run?",
        f"After this round: the open round is finished, then the run ends on all {members} members, with "
        f"{_rounds(state)}. Now: the open round closes with the updates "
        "there are. A higher --rounds goes on later.",
        (("After this round", "stop"), ("Now", "stop-now")),
    )


def _rounds(state: State) -> str:
    """Return how many rounds the run has when the open one is finished."""
    count = state.trained + 1
    of = f" of {state.planned_rounds}" if state.planned_rounds else ""
    return f"{count} {plural(count, 'round')}{of}"


def stopping_now(state: State) -> Question:
    """Ask whether to stop the run now."""
    _, members = views.reachable(state)
    return Question(
        "Stop the run now?",
        "Members hand in no update they have not trained yet: the open round closes with the updates there "
        f"are, and the run ends on all {members} members.",
        (("Stop now", "stop-now"),),
    )


def leaving(state: State) -> Question:
    """Ask whether the observed node should leave."""
    here, members = views.reachable(state)
    name = views.display_name(state.name)
    rest = max(0, members - 1)
    return Question(
        f"Let {name} leave?",
        f"{name} votes and serves until a commit drops it, then it ends. {rest} members remain; "
        f"{max(0, here - 1)} of them are here, {rest // 2 + 1} are needed.",
        (("Leave", "leave"),),
    )


def killing(state: State, name: str) -> Question:
    """Ask whether to kill a node of the demo."""
    here, members = views.reachable(state)
    needed = members // 2 + 1
    goes_on = "the round goes on" if here - 1 >= needed else "the run pauses until one is back"
    attached = " It is the node this screen is attached to." if name == state.name else ""
    return Question(
        f"Kill {views.display_name(name)}?",
        f"Its process ends at once, as if its plug were pulled: {goes_on} with {max(0, here - 1)} of "
        f"{members}, quorum {needed}.{attached}",
        (("Kill", name),),
    )


class ConfirmDialog(ModalScreen[str | None]):
    """Asks a question; returns the choice, or None for no."""

    BINDINGS: ClassVar = [("escape", "dismiss(None)", "No"), ("n", "dismiss(None)", "No")]

    def __init__(self, question: Question) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Put the question above its buttons; "no" has the focus."""
        with Vertical(classes="dialog") as around:
            around.border_title = self._question.title
            yield Static(self._question.text, markup=False)
            with Horizontal(classes="buttons"):
                yield Button("No, go back", id="none", variant="primary")
                for number, (label, _) in enumerate(self._question.choices):
                    yield Button(label, id=f"choice-{number}", variant="warning")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Return the choice of the button."""
        name = event.button.id or ""
        self.dismiss(None if name == "none" else self._question.choices[int(name.removeprefix("choice-"))][1])


class ExportDialog(ModalScreen[str | None]):
    """Asks for the file to write the rounds to; returns its path, or None to write nothing."""

    BINDINGS: ClassVar = [("escape", "dismiss(None)", "No")]

    def __init__(self, stem: str) -> None:
        """Propose a file with the name *stem*."""
        super().__init__()
        self._stem = stem

    def compose(self) -> ComposeResult:
        """Put a button for each format below the file's name."""
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
        """Change the file's ending, write, or go back."""
        path = self.query_one("#path", Input)
        name = event.button.id or ""
        if name.startswith("kind-"):
            stem = path.value.rpartition(".")[0] or path.value
            path.value = f"{stem}.{name.removeprefix('kind-')}"
        else:
            self.dismiss(path.value if name == "write" and path.value else None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Write the file."""
        self.dismiss(event.value or None)


class CheckDialog(ModalScreen[None]):
    """Runs the network check while it is open, and shows what is found."""

    BINDINGS: ClassVar = [
        ("escape", "dismiss(None)", "Back"),
        ("d", "dismiss(None)", "Back"),
        ("q", "dismiss(None)", "Back"),
    ]

    def __init__(self, check: Callable[[], Awaitable[Sequence[CheckFinding]]], glyphs: Glyphs) -> None:
        """Show what *check* finds, or the sentence of the `UserError` that it raises."""
        super().__init__()
        self._check = check
        self._glyphs = glyphs
        self._shown = Static(markup=False)

    def compose(self) -> ComposeResult:
        """Put the findings into a panel that scrolls."""
        with VerticalScroll(classes="dialog check") as around:
            around.border_title, around.border_subtitle = "Network check", "esc: back"
            yield self._shown

    def on_mount(self) -> None:
        """Begin the check, which ends with this dialog."""
        self._show([Text("Checking: a node that does not answer takes a few seconds.", style="quiet")])
        self.run_worker(self._run(), name="check")

    async def _run(self) -> None:
        try:
            findings = await self._check()
        except UserError as error:
            self._show([Text(clip(str(error), MAX_TEXT), style="bad")])
        else:
            self._show(check_lines(findings, self._glyphs))

    def _show(self, lines: Sequence[Text]) -> None:
        joined = Text("\n").join(lines)
        self._shown.update(painted(joined, palette_of(self.app.current_theme)))
