"""Turns the state of a node into what the screens show: table rows, chart series and lines of text.

These are pure functions of the state and the time.
"""

from __future__ import annotations

from tui.views.charts import (
    MOST_CHOSEN,
    ChartData,
    best_and_worst,
    chart_title,
    metric_chart,
    metrics_of,
    peer_chart,
)
from tui.views.finale import finale_line, finale_lines
from tui.views.peers import (
    PEER_COLUMNS,
    WIDE_PEER_COLUMNS,
    PeerTrends,
    activity_text,
    data_lines,
    network_lines,
    peer_lines,
    peer_rounds,
    peer_rows,
)
from tui.views.ring import ring
from tui.views.rounds import (
    ROUND_COLUMNS,
    class_bars,
    open_line,
    open_lines,
    open_name,
    round_gantt,
    round_lines,
    round_log,
    round_rows,
)
from tui.views.summary import (
    PHASE_WORDS,
    Scores,
    columns,
    display_name,
    finished_text,
    has_loss,
    header,
    last_scores,
    log_line,
    reachable,
    remaining_seconds,
    title,
)
from tui.views.waiting import join_command, waiting_lines

__all__ = [
    "MOST_CHOSEN",
    "PEER_COLUMNS",
    "PHASE_WORDS",
    "ROUND_COLUMNS",
    "WIDE_PEER_COLUMNS",
    "ChartData",
    "PeerTrends",
    "Scores",
    "activity_text",
    "best_and_worst",
    "chart_title",
    "class_bars",
    "columns",
    "data_lines",
    "display_name",
    "finale_line",
    "finale_lines",
    "finished_text",
    "has_loss",
    "header",
    "join_command",
    "last_scores",
    "log_line",
    "metric_chart",
    "metrics_of",
    "network_lines",
    "open_line",
    "open_lines",
    "open_name",
    "peer_chart",
    "peer_lines",
    "peer_rounds",
    "peer_rows",
    "reachable",
    "remaining_seconds",
    "ring",
    "round_gantt",
    "round_lines",
    "round_log",
    "round_rows",
    "title",
    "waiting_lines",
]
