"""Draws PNG files with matplotlib, which is installed with the extra `plots`.

Figures are drawn without pyplot: so no window opens, and no setting of the user's changes them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from p2pfl.cards import metric_text
from p2pfl.errors import UserError
from p2pfl.events import RoundRow
from p2pfl.report.plot import (
    BLUE,
    BLUE_BAND,
    GREY,
    MAX_VALUE,
    ORANGE,
    ORANGE_BAND,
    band_of,
    heading_of,
    values_of,
)
from p2pfl.report.table import shown_metrics
from p2pfl.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 120

MAX_NAME = 24
"""Characters of a name on a figure."""

MAX_WRITTEN_CLASSES = 20
"""Up to this number of classes, each cell of a confusion matrix has its number."""

GREEN, RED = "#009e73", "#c0392b"

LINES = [
    (colour, style)
    for style in ("-", "--", ":")
    for colour in (BLUE, ORANGE, GREEN, "#cc79a7", "#56b4e9", "#e69f00", "#000000")
]
"""Colours of Okabe and Ito, and styles of lines that repeat them."""

MAX_LEGEND = 24
"""Number of curves that have a name in the legend."""

MAX_INSIDE = 6
"""Up to this number of curves, the legend is where it covers none of them, and else beside them."""


class Change(NamedTuple):
    """A member that joined, left the roster, or whose update was left out."""

    round: int
    name: str
    what: Literal["joined", "lost"]
    reason: str
    """Why its update was left out; empty for joins and dropped members."""


def changes_of(rows: Sequence[RoundRow]) -> list[Change]:
    """Return the joins and losses in the training rounds *rows*.

    A member whose updates are missing in consecutive rounds is lost in the first of them.
    """
    changes: list[Change] = []
    missing: set[str] = set()
    before: RoundRow | None = None
    for row in rows:
        number = row.training_round
        if before is not None:
            here, there = set(row.members), set(before.members)
            changes += [Change(number, name, "joined", "") for name in sorted(here - there)]
            changes += [Change(number, name, "lost", "") for name in sorted(there - here - missing)]
        left_out = dict(row.left_out)
        changes += [
            Change(number, name, "lost", reason)
            for name, reason in sorted(left_out.items())
            if name not in missing
        ]
        missing = set(left_out)
        before = row
    return changes


def history_png(rows: Iterable[RoundRow], alone: Sequence[float] = ()) -> bytes:
    """Return a PNG file with the primary metric and the loss of the training rounds among *rows*.

    *alone* holds the primary metric of models trained on one node's data only; a dashed line shows the best.
    Joins and losses of members are marked.

    Raises:
        UserError: matplotlib is not installed.
    """
    trained = [row for row in rows if row.kind == "train"]
    names = shown_metrics(trained)
    figure = _figure(7.6, 2.4 + 1.6 * len(names))
    figure.suptitle(heading_of(trained), fontsize=11, parse_math=False)
    plots: Any = figure.subplots(len(names), 1, sharex=True, squeeze=False)
    for place, (axes, name) in enumerate(zip(plots[:, 0], names, strict=True)):
        _draw_metric(axes, trained, name, is_first=not place)
    if alone:
        best = min(alone) if trained and trained[-1].direction == "min" else max(alone)
        plots[0, 0].axhline(best, color=GREY, linestyle="--", label=f"best alone: {metric_text(best)}")
    _mark_changes(plots[0, 0], changes_of(trained))
    plots[0, 0].legend(fontsize=8, loc="best")
    plots[-1, 0].set_xlabel("round")
    return _png(figure)


def _draw_metric(axes: Axes, rows: Sequence[RoundRow], name: str, *, is_first: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    colour, band_colour = (BLUE, BLUE_BAND) if is_first else (ORANGE, ORANGE_BAND)
    if band := band_of(rows, name):
        numbers, lows, highs = zip(*band, strict=True)
        axes.fill_between(numbers, lows, highs, color=band_colour, label="members, min-max")
    values = values_of(rows, name)
    axes.plot(
        [number for number, _ in values],
        [value for _, value in values],
        color=colour,
        marker="o" if len(values) <= 60 else "",
        markersize=3,
        label=name,
    )
    axes.set_ylabel(name)
    axes.grid(visible=True, color="#e3e7ea")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _mark_changes(axes: Axes, changes: Sequence[Change]) -> None:
    """Draw a vertical line for each change, with the names at its top."""
    for what, colour, mark in (("joined", GREEN, "+"), ("lost", RED, "✕")):
        numbers = sorted({change.round for change in changes if change.what == what})
        for place, number in enumerate(numbers):
            found = [change.name for change in changes if (change.round, change.what) == (number, what)]
            text = ", ".join(one_line(name, MAX_NAME) for name in found[:3])
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            axes.axvline(number, color=colour, linestyle=":", linewidth=1, label="" if place else what)
            axes.annotate(
                f"{mark} {text}{more}", (number, 1.0), xycoords=("data", "axes fraction"), color=colour,
                fontsize=7, rotation=90, ha="right", va="top", parse_math=False,
            )  # fmt: skip


def confusion_png(confusion: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> bytes:
    """Return a PNG file of a confusion matrix: rows are the true classes, columns the predicted ones.

    Raises:
        UserError: matplotlib is not installed.
    """
    count = len(classes)
    side = min(12.0, 3.0 + 0.35 * count)
    figure = _figure(side + 1, side)
    axes = figure.subplots()
    shares = [[value / max(1, sum(row)) for value in row] for row in confusion]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    if count <= MAX_WRITTEN_CLASSES:
        for i, row in enumerate(confusion):
            for j, value in enumerate(row):
                colour = "white" if shares[i][j] > 0.5 else "black"
                axes.text(j, i, str(value), ha="center", va="center", color=colour, fontsize=7)
    if count <= 2 * MAX_WRITTEN_CLASSES:
        names = [one_line(name, MAX_NAME) for name in classes]
        axes.set_xticks(range(count), names, rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(range(count), names, fontsize=7, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(one_line(title, 80), fontsize=9, parse_math=False)
    return _png(figure)


class Curve(NamedTuple):
    """The mean of a metric over several runs, by round."""

    label: str
    points: Sequence[tuple[int, float, float]]
    """Round, mean and standard deviation."""


def curves_png(curves: Sequence[Curve], metric: str, title: str) -> bytes:
    """Return a PNG file with *curves* of *metric*; a band shows mean plus and minus deviation.

    Raises:
        UserError: matplotlib is not installed.
    """
    figure = _figure(8.0 if len(curves) <= MAX_INSIDE else 11.0, 4.8)
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots()
    for place, (curve, (colour, style)) in enumerate(zip(curves, cycle(LINES), strict=False)):
        points = [point for point in curve.points if abs(point[1]) <= MAX_VALUE]
        numbers, means, spreads = zip(*points, strict=True) if points else ((), (), ())
        lows = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
        highs = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
        name = one_line(curve.label, 3 * MAX_NAME) if place < MAX_LEGEND else "_nolegend_"
        axes.plot(numbers, means, color=colour, linestyle=style, label=name)
        if any(spreads):
            axes.fill_between(numbers, lows, highs, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(metric)
    axes.grid(visible=True, color="#e3e7ea")
    axes.set_title(one_line(title, 80), fontsize=10, parse_math=False)
    if curves:
        beside: Any = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
        legend = axes.legend(fontsize=7, **(beside if len(curves) > MAX_INSIDE else {"loc": "best"}))
        for text in legend.get_texts():
            text.set_parse_math(False)
    return _png(figure)


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "a PNG file needs matplotlib, which is not installed: pip install 'p2pfl-lan[plots]'"
        ) from error
    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": "p2pfl"})
    return file.getvalue()
