"""From what is known of a node to what the screens show: rows, series and lines of text.

Pure functions of the state and of the time: nothing here draws, and nothing is kept. What has no source in
the state is not shown.
"""

from __future__ import annotations

from tui.views.charts import accuracy_series, loss_series, peer_series
from tui.views.peers import PEER_COLUMNS, activity_text, network_lines, peer_lines, peer_rounds, peer_rows
from tui.views.rounds import (
    ROUND_COLUMNS,
    open_line,
    open_lines,
    open_name,
    round_gantt,
    round_lines,
    round_rows,
)
from tui.views.summary import (
    PHASE_WORDS,
    Scores,
    finished_text,
    header,
    last_scores,
    log_line,
    plain,
    reachable,
    remaining_seconds,
    title,
    waiting_lines,
)

__all__ = [
    "PEER_COLUMNS",
    "PHASE_WORDS",
    "ROUND_COLUMNS",
    "Scores",
    "accuracy_series",
    "activity_text",
    "finished_text",
    "header",
    "last_scores",
    "log_line",
    "loss_series",
    "network_lines",
    "open_line",
    "open_lines",
    "open_name",
    "peer_lines",
    "peer_rounds",
    "peer_rows",
    "peer_series",
    "plain",
    "reachable",
    "remaining_seconds",
    "round_gantt",
    "round_lines",
    "round_rows",
    "title",
    "waiting_lines",
]
