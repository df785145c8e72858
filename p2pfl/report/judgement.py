"""Renders the evaluation of a model as text: metrics, a table of the classes, the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from p2pfl.messages import ClassCount, Evaluation
from p2pfl.text import one_line

MAX_NAME = 20
"""Characters of a class name that are shown."""

MAX_MATRIX_CLASSES = 20
"""A matrix of more classes is too wide for a terminal: then the most frequent confusions are listed."""

MAX_CONFUSIONS = 15

HEADER_CHARACTERS = 6
"""Characters of a class name above a column of the matrix."""


def judgement_lines(
    evaluation: Evaluation, classes: Sequence[str], confusion: Sequence[Sequence[int]]
) -> list[str]:
    """Return the lines of the report on *evaluation*."""
    names = [one_line(name, MAX_NAME) for name in classes]
    width = max((len(name) for name in evaluation.metrics), default=0)
    lines = [f"{name:<{width}}  {value:.4f}" for name, value in evaluation.metrics.items()]
    if evaluation.classes:
        lines += ["", *class_lines(evaluation.classes, names)]
    if confusion:
        small = len(names) <= MAX_MATRIX_CLASSES
        lines += ["", *(matrix_lines(confusion, names) if small else confusion_lines(confusion, names))]
    return lines


def class_lines(counts: Sequence[ClassCount], names: Sequence[str]) -> list[str]:
    """Return a table with the classes *names*, from their *counts*."""
    width = max(5, *map(len, names))
    lines = [f"{'class':<{width}}  examples   right  recall  precision      f1"]
    for name, count in zip(names, counts, strict=False):
        recall, precision = _share(count.right, count.examples), _share(count.right, count.predicted)
        f1 = _share(2 * count.right, count.examples + count.predicted)
        lines.append(
            f"{name:<{width}}  {count.examples:>8}  {count.right:>6}  {recall:>6}  {precision:>9}  {f1:>6}"
        )
    return lines


def matrix_lines(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> list[str]:
    """Return the matrix: rows are the true classes, columns the predicted ones; 0 is a dot."""
    cells = [[str(value) if value else "." for value in row] for row in confusion]
    heads = [name[:HEADER_CHARACTERS] for name in names]
    widths = [max(len(head), *(len(row[place]) for row in cells)) for place, head in enumerate(heads)]
    left = max(map(len, names))
    lines = ["true classes in rows, predicted ones in columns:"]
    for name, row in [("", heads), *zip(names, cells, strict=True)]:
        lines.append(
            f"{name:<{left}}  "
            + " ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        )
    return [line.rstrip() for line in lines]


def confusion_lines(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> list[str]:
    """Return the most frequent confusions of many classes."""
    found = [
        (value, names[true], names[predicted])
        for true, row in enumerate(confusion)
        for predicted, value in enumerate(row)
        if value and true != predicted
    ]
    if not found:
        return ["no class was taken for another one"]
    found.sort(key=lambda one: -one[0])
    lines = [f"{value:>6}  {true} taken for {predicted}" for value, true, predicted in found[:MAX_CONFUSIONS]]
    return ["most frequent confusions:", *lines]


def judgement_fields(
    evaluation: Evaluation, classes: Sequence[str], confusion: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Return *evaluation* for JSON."""
    return {
        "examples": evaluation.examples,
        "metrics": evaluation.metrics,
        "classes": [
            {"class": name, "examples": one.examples, "right": one.right, "predicted": one.predicted}
            for name, one in zip(classes, evaluation.classes, strict=False)
        ],
        "confusion": confusion,
    }


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.4f}" if whole else "-"
