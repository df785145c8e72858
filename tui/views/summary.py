"""Short texts on the run as a whole: the header, the page before the run, the result, and log lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from p2pfl.cards import metric_cell, metric_heading, metric_text
from p2pfl.events import MemberScore
from p2pfl.observe.render import LogRow
from p2pfl.observe.rounds import Round
from p2pfl.observe.state import State
from p2pfl.spec import task_name
from p2pfl.strategy_specs import FedAvgSpec, strategy_name
from tui.symbols import Glyphs, clip, metric
from tui.widgets.header import HeaderValues
from tui.widgets.table import Column

NONE = "—"
"""Shown for a missing value."""

PHASE_WORDS = {
    "starting": "STARTING",
    "waiting": "WAITING FOR PEERS",
    "running": "RUNNING",
    "no quorum": "NO QUORUM",
    "paused": "PAUSED",
    "complete": "COMPLETE",
    "stopped": "STOPPED",
    "untrained": "ENDED UNTRAINED",
    "ended": "ENDED",
}
"""Texts of the node's phases."""


class Scores(NamedTuple):
    """The primary metric of the last evaluated round, and its change."""

    round: Round | None
    value: float | None
    change: float | None


def primary_of(state: State, one: MemberScore | None) -> str:
    """Return the primary metric on a member's own held-out data, for a column."""
    value = state.value_of(one)
    return metric(state.primary, value) if value is not None else NONE


def loss_of(one: MemberScore | None) -> str:
    """Return the loss on a member's own held-out data, for a column."""
    value = one.mean("loss") if one is not None else None
    return metric_cell(value, 5) if value is not None else NONE


def has_loss(state: State) -> bool:
    """Whether the loss is shown beside the primary metric: not where it is that, or is not measured."""
    return "loss" in state.measures.metrics and state.primary != "loss"


def columns(state: State, all_: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns *all_* of a table for the metrics of the run."""
    heading = metric_heading(state.primary, 5)
    return tuple(
        column._replace(title=heading) if column.key == "primary" else column
        for column in all_
        if column.key != "loss" or has_loss(state)
    )


def last_scores(state: State) -> Scores:
    """Return the primary metric of the last round that all members have evaluated."""
    last: Round | None = None
    latest = 0.0
    for one in reversed(state.rounds):
        value = state.value_of(one)
        if value is None or one.is_partial:
            continue
        if last is not None:
            return Scores(last, latest, latest - value)
        last, latest = one, value
    return Scores(last, latest if last is not None else None, None)


def remaining_seconds(state: State) -> float | None:
    """Return the expected rest of the run, from its last ten rounds; None before the first is decided."""
    if state.phase != "running" or state.planned_rounds <= state.trained:
        return None
    recent = [one.seconds for one in list(state.rounds)[-10:] if one.seconds]
    return sum(recent) / len(recent) * (state.planned_rounds - state.trained) if recent else None


def reachable(state: State) -> tuple[int, int]:
    """Return the number of reachable members and of all members."""
    return state.reachable, len(state.members)


def header(state: State, attached: str) -> HeaderValues:
    """Return the values of the header."""
    scores = last_scores(state)
    here, members = reachable(state)
    left = remaining_seconds(state)
    phase = PHASE_WORDS[state.phase]
    if state.phase == "no quorum" and state.quorum is not None:
        phase = f"PAUSED {state.quorum[0]} of {state.quorum[1]} reachable, {state.quorum[2]} needed"
    elif state.phase == "running" and state.control_requests:
        phase = "PAUSING" if "pause" in state.control_requests else "ENDING"
    elif state.phase == "waiting" and state.waiting is not None:
        phase = f"{phase} {state.waiting.present}/{state.waiting.needed}"
    return HeaderValues(
        task=task_name(state.spec.task) if state.spec is not None else "p2pfl",
        strategy=_strategy(state),
        node=state.name,
        phase=phase,
        phase_kind=state.phase,
        trained=state.trained,
        rounds=state.planned_rounds,
        primary=state.primary,
        value=scores.value,
        is_rise_good=state.measures.direction == "max",
        is_provisional=scores.round is not None and scores.round.is_provisional,
        change=scores.change,
        reachable=here,
        members=members,
        remaining=left,
        attached=attached,
    )


def _strategy(state: State) -> str:
    """Return the name of the run's strategy; empty if it is FedAvg, or if there is no run."""
    strategy = state.spec.strategy if state.spec is not None else FedAvgSpec()
    return "" if isinstance(strategy, FedAvgSpec) else strategy_name(strategy)


def finished_text(state: State) -> str:
    """Return the result of the run, for the last line on the normal screen."""
    scores = last_scores(state)
    result = ""
    if scores.round is not None and scores.value is not None:
        after = "" if scores.round.round == state.trained else f" after round {scores.round.round}"
        reported = ", as reported" if scores.round.is_provisional else ""
        result = f", {state.primary} {metric_text(scores.value)}{after}{reported}"
    return f"{rounds_text(state)}{result}"


def rounds_text(state: State) -> str:
    """Return "round 3 of 10", or "round 3" where no end is known."""
    of = f" of {state.planned_rounds}" if state.planned_rounds else ""
    return f"round {state.trained}{of}"


def title(state: State) -> str:
    """Return the title of the terminal's window."""
    scores = last_scores(state)
    if scores.value is None:
        return "p2pfl"
    if state.primary == "accuracy":
        return f"r{state.trained} {100 * scores.value:.1f}%"
    return f"r{state.trained} {state.primary} {metric_text(scores.value)}"


def display_name(name: str) -> str:
    """Return a peer's name without markup or control characters."""
    return clip(name, 30).replace("[", "(").replace("]", ")")


def log_line(row: LogRow, width: int, glyphs: Glyphs) -> Text:
    """Return one line of the log."""
    mark = row.mark if not glyphs.is_ascii else glyphs.ascii_of(row.mark)
    line = Text().append(time.strftime("%H:%M:%S ", time.localtime(row.time)), style="quiet")
    line.append(mark, style=row.level)
    line.append(f" {row.text}")
    line.truncate(max(1, width), overflow="ellipsis")
    return line
