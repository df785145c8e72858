"""No package of the sources has a circle of imports, be it only for types: each module can be read by itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.source import PACKAGE, ROOT

TUI = ROOT / "tui"

PACKAGES = sorted(path.parent for root in (PACKAGE, TUI) for path in root.rglob("__init__.py"))


def name_of(path: Path) -> str:
    """Return the dotted name of the module in the file *path*."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes below *node* but those in functions.

    An import in a function is no part of the circle: it is made when the function runs, so the module above can
    be read and tested without it. The command line does so to start fast.
    """
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from outside_functions(child)


def imports_of(tree: ast.AST, known: set[str]) -> set[str]:
    """Return which of the *known* modules *tree* imports, also under `TYPE_CHECKING`."""
    found: set[str] = set()
    for node in outside_functions(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                found.add(member if member in known else node.module)
    return found & known


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules in *graph* that reach each other (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in order:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], order[target])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1 or name in graph[name]:
                found.append(sorted(group))

    for name in sorted(graph):
        if name not in order:
            visit(name)
    return found


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    paths = [path for root in (PACKAGE, TUI) for path in root.rglob("*.py")]
    known = {name_of(path) for path in paths}
    return {name_of(path): imports_of(ast.parse(path.read_text("utf-8")), known) for path in paths}


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_a_package_has_no_import_circle(package: Path, graph: dict[str, set[str]]) -> None:
    inside = name_of(package)
    own = {name for name in graph if name == inside or name.rpartition(".")[0] == inside}
    assert [group for group in circles(graph) if own & set(group)] == []


def test_a_circle_would_be_found_also_one_that_exists_for_types_only() -> None:
    known = {"a", "a.b", "a.c", "a.d"}
    sources = {
        "a": "",
        "a.b": "from a import c",
        "a.c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.b import B",
        "a.d": "from a.c import C\ndef f():\n    from a.d import D",
    }
    graph = {name: imports_of(ast.parse(text), known) for name, text in sources.items()}
    assert circles(graph) == [["a.b", "a.c"]]
