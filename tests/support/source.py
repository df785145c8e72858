"""What the source files say, read as syntax: for tests about the code itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

PACKAGE = ROOT / "p2pfl"


def modules(*parts: str) -> list[Path]:
    """Return the source files of *parts* of the package (files or folders), of all of it without any."""
    found: list[Path] = []
    for part in parts or ("",):
        path = PACKAGE / part
        found.extend([path] if path.is_file() else path.rglob("*.py"))
    return sorted(found)


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything imported anywhere in *tree*, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def called(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything called in *tree*; `f().g()` has none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := _dotted(node.func)):
            yield node.lineno, name


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""
