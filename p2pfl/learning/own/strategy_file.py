"""Read what a node needs of a strategy of the user's own from its file, without executing it.

The node process must not import torch, which the file does. So the attributes `least_updates` and `slots` of
the class are literals, and the arguments of `__init__` are read from its definition.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from p2pfl.errors import UserError
from p2pfl.paths import full, holds_file, holds_folder, obstacle, shown

BASE = "Elementwise"
"""The class from which a strategy of the user's own derives."""


_OTHERS = {"model", "data", "rounds"}
"""Names of a file that is a task or a script."""


class StrategyClass(msgspec.Struct, frozen=True):
    """A class in a file, as far as a node needs to know it."""

    path: Path
    """Absolute path of the file."""
    name: str
    least: int
    """Its attribute `least_updates`."""
    slots: tuple[str, ...]
    """Its attribute `slots`."""
    arguments: Mapping[str, str | None] | None
    """The keyword arguments of `__init__` with their defaults as texts; None for one that has no default.
    None as a whole: any may be given."""


def split_code(code: str) -> tuple[Path, str]:
    """Return path and class of *code*, such as "mine.py:Cautious"; the class is empty if none is named."""
    path, _, name = code.rpartition(":")
    if not path or code.endswith(".py"):
        return Path(code), ""
    return Path(path), name


def find_strategy(code: str) -> str:
    """Return *code*, such as "mine.py" or "mine.py:Cautious", with its class if it names a strategy; else "".

    A file without a class named is a strategy if it has one class that derives from `p2pfl.Elementwise`, and
    nothing named `model`, `data` or `rounds`, which make a task or a script.

    Raises:
        UserError: it has several strategies, and none is named.
    """
    path, name = split_code(code)
    try:
        tree = ast.parse(path.read_bytes()) if path.suffix == ".py" else ast.Module([], [])
    except (OSError, SyntaxError, ValueError):  # who reads it as a task says what is wrong
        return ""
    strategies: list[str] = []
    for node in tree.body:
        bases = (
            {ast.unparse(one).rpartition(".")[2] for one in node.bases}
            if isinstance(node, ast.ClassDef)
            else set()
        )
        if isinstance(node, ast.ClassDef) and bases & {BASE, *strategies}:
            strategies.append(node.name)
    if name:
        return code if name in strategies else ""
    if not strategies or _OTHERS & set(_names(tree)):
        return ""
    if len(strategies) > 1:
        raise UserError(
            f"{shown(path)} has the strategies {', '.join(strategies)}; name one, such as "
            f"{shown(path)}:{strategies[-1]}."
        )
    return f"{path}:{strategies[0]}"


def _names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that the module binds at its top level, and the attributes that it uses anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (one.id for one in node.targets if isinstance(one, ast.Name))


def read_strategy_class(path: Path, name: str) -> StrategyClass:
    """Return what the file *path* says about its class *name*.

    Raises:
        UserError: the file cannot be read or parsed, it has no such class, or an attribute is no literal.
    """
    classes = _classes(path)
    if name not in classes:
        near = difflib.get_close_matches(name, classes, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        what = f"has no class {name!r}{hint}" if name else "is given without a class"
        raise UserError(
            f"--strategy {shown(path)} {what}; FILE.py:CLASS is expected, and the classes of the file are "
            f"{', '.join(classes) or 'none'}."
        )
    least, slots = 1, ()
    for node in reversed(list(_with_bases(classes, name))):
        for attribute, value in _assignments(node):
            if attribute == "least_updates":
                least = _literal(path, attribute, value, int, "a number, such as 3")
            elif attribute == "slots":
                names = _literal(path, attribute, value, tuple | list, 'a tuple of names, such as ("mean",)')
                slots = tuple(names)
    return StrategyClass(full(path), name, least, slots, _arguments(classes, name))


def _classes(path: Path) -> dict[str, ast.ClassDef]:
    """Return the classes at the top level of the file *path*, by name."""
    if not holds_file(path):
        why = obstacle(path) or ("it is a folder" if holds_folder(path) else "there is no such file")
        raise UserError(f"--strategy is {shown(path)}, which cannot be used: {why}.")
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise UserError(f"{path.name}, line {error.lineno}: {error.msg}; correct the file.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"--strategy is {shown(path)}, which cannot be read: {error}.") from error
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _with_bases(classes: Mapping[str, ast.ClassDef], name: str) -> Iterator[ast.ClassDef]:
    """Yield the class *name* and those of its bases that are in the same file, the nearest first."""
    known, waiting = set[str](), [name]
    while waiting:
        node = classes.get(waiting.pop(0))
        if node is not None and node.name not in known:
            known.add(node.name)
            yield node
            waiting += [base.id for base in node.bases if isinstance(base, ast.Name)]


def _assignments(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    """Yield the attributes that the body of a class assigns, with their values."""
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets: list[ast.expr] = [statement.target]
            value = statement.value
        elif isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, value


def _literal(path: Path, attribute: str, node: ast.expr, kind: Any, expected: str) -> Any:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UserError(
            f"{path.name}, line {node.lineno}: {attribute} is {ast.unparse(node)[:60]}, and {expected}, is "
            "expected: the node reads it without executing the file."
        )
    return value


def _arguments(classes: Mapping[str, ast.ClassDef], name: str) -> Mapping[str, str | None] | None:
    """Return the keyword arguments of the class *name*, as `StrategyClass.arguments` has them."""
    for node in _with_bases(classes, name):
        if node.decorator_list:  # such as a dataclass, which makes the function
            return None
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                return _parameters(statement.args)
    return {} if _is_whole(classes, name) else None


def _is_whole(classes: Mapping[str, ast.ClassDef], name: str) -> bool:
    """Return whether all bases of the class *name* are in the same file, or are `Elementwise`."""
    bases = [base for node in _with_bases(classes, name) for base in node.bases]
    names = [base.attr if isinstance(base, ast.Attribute) else ast.unparse(base) for base in bases]
    return all(base in classes or base in ("Elementwise", "ABC") for base in names)


def _parameters(parameters: ast.arguments) -> Mapping[str, str | None] | None:
    if parameters.kwarg is not None:
        return None
    found: dict[str, str | None] = {}
    positional = [*parameters.posonlyargs, *parameters.args]
    missing = len(positional) - len(parameters.defaults)
    defaults: list[ast.expr | None] = [None] * missing + list(parameters.defaults)
    for one, default in [
        *list(zip(positional, defaults, strict=True))[1:],  # without self
        *zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True),
    ]:
        found[one.arg] = None if default is None else ast.unparse(default)
    return found
