"""The library as a whole: `p2pfl/__init__.py`."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import p2pfl
from p2pfl.learning import user_task


def test_importing_the_library_imports_nothing_else() -> None:
    code = (
        "import p2pfl, sys; print(sorted(name for name in sys.modules if 'p2pfl' in name or name == 'torch'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['p2pfl']\n"


def test_the_names_of_the_library_are_found_when_they_are_used() -> None:
    assert p2pfl.Task is user_task.Task
    assert p2pfl.Agreed is user_task.Agreed
    for name in p2pfl.__all__:
        assert getattr(p2pfl, name) is not None
        assert name in dir(p2pfl)


def test_a_task_needs_no_torch_to_be_named() -> None:
    code = "import p2pfl, sys; p2pfl.Task, p2pfl.Agreed, p2pfl.node; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_name_that_there_is_not_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'p2pfl' has no attribute 'nothing'"):
        p2pfl.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_type_checkers_see_the_names_of_the_library() -> None:
    stub = ast.parse(Path(p2pfl.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    shown = {
        alias.name: statement.module
        for statement in stub.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert shown == p2pfl._HOMES  # type: ignore[attr-defined]  # not in the stub
