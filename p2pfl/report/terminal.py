"""Committed rounds as a table for a terminal, at most 80 columns wide whatever the names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from p2pfl.cards import metric_text
from p2pfl.events import RoundRow
from p2pfl.report.table import shown_metrics
from p2pfl.text import one_line

if TYPE_CHECKING:
    from rich.table import Table

PROVISIONAL = "~"
"""In front of a metric that members reported and no record has committed."""

HEADING_WIDTH = 12
"""Most characters of a metric's name as a heading."""


def primary_text(row: RoundRow) -> str:
    """Return the primary metric of a round, marked where it was only reported: it may still change."""
    if row.primary_value is None:
        return "-"
    return f"{'' if row.committed else PROVISIONAL}{metric_text(row.primary_value)}"


def round_table(rounds: Iterable[RoundRow], digest_length: int = 0) -> Table:
    """Return the table of the training rounds among *rounds*.

    With *digest_length*, also the attempt that was committed and so many characters of the model's digest.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("round", justify="right")
    if digest_length:
        table.add_column("try", justify="right")
    table.add_column("aggregator", no_wrap=True, max_width=16)
    trained = [row for row in rounds if row.kind == "train"]
    primary, *loss = shown_metrics(trained)
    for heading in ("updates", primary, *loss, "seconds"):
        table.add_column(one_line(heading, HEADING_WIDTH), justify="right")
    if digest_length:
        table.add_column("model", no_wrap=True)
    for row in trained:
        table.add_row(
            str(row.training_round),
            *([str(row.attempt)] if digest_length else []),
            Text(one_line(row.aggregator)),
            f"{len(row.updates)} of {len(row.members)}",
            primary_text(row),
            *("-" if row.loss is None else metric_text(row.loss) for _ in loss),
            f"{row.seconds:.1f}" if row.seconds else "-",
            *([row.digest[:digest_length]] if digest_length else []),
        )
    return table
