"""Likely mistakes in a user's task: no errors, since the task trains, but not as its user means it."""

from __future__ import annotations

import ast
import difflib
from pathlib import Path

import torch
from torch import Tensor

from p2pfl.learning.own.interface import OPTIONAL

LIKENESS = 0.8
"""Share of characters in common from which on a name is taken for a misspelled one: "los" and "loss" have
0.86, "trained" and "train" have 0.83, "test" and "train" have less."""

SUM_ERROR = 1e-4
"""Largest difference from one of a sum of probabilities in half a million float32 roundings."""


def line_of(file: Path, name: str) -> int | None:
    """Return the line of *file* that defines *name*, at its top or as an argument such as `name=...`."""
    tree = _parse(file)
    for node in tree.body:
        if name in _defined(node):
            return node.lineno
    keywords = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == name]
    return keywords[0].value.lineno if keywords else None


def misspelled(file: Path) -> tuple[str, ...]:
    """Return a sentence for each name at the top of *file* that nearly is one that a task may define."""
    lines = {name: node.lineno for node in _parse(file).body for name in _defined(node)}
    missing = [name for name in OPTIONAL if name not in lines]
    found = []
    for name, line in lines.items():
        close = difflib.get_close_matches(name, missing, 1, LIKENESS) if name not in OPTIONAL else []
        if close and not name.startswith("_"):
            found.append(f"{file.name}, line {line}: {name} is not used; is {close[0]} meant?")
    return tuple(found)


def normalised(outputs: Tensor) -> str:
    """Return why *outputs* [batch, classes, ...] are no scores for cross-entropy; empty if they can be.

    Cross-entropy applies log-softmax itself, so scores that are probabilities already are squeezed into a
    narrow range, and the model learns slowly.
    """
    if outputs.shape[1] < 2:
        return ""
    values = outputs.detach().double()
    if bool((values >= 0).all()) and _are_ones(values.sum(1)):
        return (
            "the outputs of the model are probabilities (its last layer is a softmax), and cross-entropy "
            "takes scores: leave the softmax out, or define loss()"
        )
    if bool((values <= 0).all()) and _are_ones(values.exp().sum(1)):
        return (
            "the last layer of the model is a log-softmax, which cross-entropy applies itself: leave it out"
        )
    return ""


def _are_ones(sums: Tensor) -> bool:
    return bool(((sums - 1).abs() <= SUM_ERROR).all()) and bool(torch.isfinite(sums).all())


def _parse(file: Path) -> ast.Module:
    """Return the syntax tree of *file*, which was loaded before; an empty one if it is no text of Python."""
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])


def _defined(node: ast.stmt) -> set[str]:
    """Return the names that a statement defines; an import defines none of a task."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case _:
            return set()
