"""The end of a run: what the devices reached together, what it took, and what one can do now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from p2pfl.cards import metric_text
from p2pfl.observe.state import State
from p2pfl.text import plural
from tui.symbols import Glyphs, clip, duration, size
from tui.views.summary import NONE, last_scores, rounds_text
from tui.widgets.bars import progress

MAX_NAMES = 6
"""Names of members that are listed."""

BAR_CELLS = 40
"""Of the longest bar of the comparison."""

LEAST_BAR_CELLS = 10


class Finale(NamedTuple):
    """The result of a run in one sentence, with its style."""

    text: str
    style: str


def finale(state: State) -> Finale:
    """Return the result of the finished run."""
    value = last_scores(state).value
    reached = NONE if value is None else metric_text(value).removeprefix("0")
    match state.phase:
        case "untrained":
            return Finale("no device could train: no update was ever counted", "bad")
        case "stopped":
            best = _against_best(state, value)
            text = f"ended after {rounds_text(state)}: {state.primary} {reached}{best}"
            return Finale(text, "good" if best else "warning")
        case _:
            return Finale(f"trained together: {state.primary} {reached}{_against_best(state, value)}", "good")


def _against_best(state: State, value: float | None) -> str:
    """Return the comparison with the best model that a demo trained on one device's data alone."""
    if not state.local_only or value is None:
        return ""
    is_rise_good = state.measures.direction == "max"
    name = (max if is_rise_good else min)(state.local_only, key=state.local_only.__getitem__)
    best = state.local_only[name]
    return f", best alone {metric_text(best).removeprefix('0')} ({clip(name, 20)})"


def finale_line(state: State, glyphs: Glyphs) -> Text:
    """Return the result on one line."""
    text, style = finale(state)
    return Text(f"{_mark(style, glyphs)} {text}", style=style)


def finale_lines(state: State, glyphs: Glyphs, keys: Sequence[tuple[str, str]], width: int) -> list[Text]:
    """Return the result, the time and bytes it took, who took part, and the *keys* that work now.

    After a demo bars of at most *width* cells compare the shared model with those trained alone.
    """
    text, style = finale(state)
    lines = [Text(f"{_mark(style, glyphs)} {text}", style=style), *_compared(state, glyphs, width), Text("")]
    facts = [f"{state.trained} {plural(state.trained, 'round')}"]
    if (seconds := _seconds(state)) is not None:
        facts[0] += f" in {duration(seconds)}"
    moved = sum(peer.sent + peer.received for peer in state.peers.values() if not peer.is_me)
    if moved:
        facts.append(f"{size(moved)} sent and received by this device")
    lines.append(Text(f" {glyphs.dot} ".join(facts)))
    names = sorted({update.name for one in state.rounds for update in one.updates})
    if names:
        shown = ", ".join(clip(name, 20) for name in names[:MAX_NAMES])
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        lines.append(Text(f"{len(names)} {plural(len(names), 'device')} trained: {shown}{more}"))
    lines.append(Text(""))
    if keys:
        line = Text("")
        for key, label in keys:
            line.append(f"{key} ", style="bold").append(f"{label}   ", style="quiet")
        lines.append(line)
    lines += [
        Text(f"train on: p2pfl node ... --rounds {2 * max(1, state.target_rounds)}", style="quiet"),
    ]
    return lines


def _compared(state: State, glyphs: Glyphs, width: int) -> list[Text]:
    """Return a bar for the shared model and for the best and the mean of the models trained alone."""
    value, alone = last_scores(state).value, state.local_only.values()
    if value is None or not alone or state.primary != "accuracy":  # it is a part of 1, as others are not
        return []
    rows = [
        ("together", value, "good"),
        ("best alone", max(alone), "alone"),
        ("mean alone", sum(alone) / len(alone), "quiet"),
    ]
    room = min(BAR_CELLS, width - 20)
    if room < LEAST_BAR_CELLS:
        return []
    return [
        Text(f"  {label:<11}")
        .append_text(progress(part, room, glyphs, style))
        .append(f" {metric_text(part).removeprefix('0')}", style="bold" if style == "good" else "")
        for label, part, style in rows
    ]


def _mark(style: str, glyphs: Glyphs) -> str:
    return glyphs.broken if style == "bad" else glyphs.check


def _seconds(state: State) -> float | None:
    """Return the seconds from the begin of the run to its last commit; None if not both were seen."""
    decided = [one for one in state.rounds if one.committed_at is not None]
    if len(decided) < 2 or decided[0].round != 1:
        return None
    first, last = decided[0], decided[-1]
    assert first.committed_at is not None
    assert last.committed_at is not None
    return last.committed_at - first.committed_at + first.seconds
