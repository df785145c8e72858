"""Read the source files as syntax trees, for tests of the code itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

PACKAGE = ROOT / "p2pfl"


def modules(*parts: str) -> list[Path]:
    """Return the source files of *parts* (files or folders) of the package; default: all."""
    found: list[Path] = []
    for part in parts or ("",):
        path = PACKAGE / part
        found.extend([path] if path.is_file() else path.rglob("*.py"))
    return sorted(found)


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and full name of every import in *tree*, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def called(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every call in *tree*; calls like `f().g()` are skipped."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := _dotted(node.func)):
            yield node.lineno, name


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""
