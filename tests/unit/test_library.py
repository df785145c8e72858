"""The library as a whole: `p2pfl/__init__.py`."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import p2pfl
from p2pfl import errors, programs
from p2pfl.learning.own import interface
from p2pfl.library.node import EmbeddedNode


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=programs.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_library_imports_nothing_else() -> None:
    code = "import p2pfl, sys; print(*sorted(name for name in sys.modules if 'p2pfl' in name or name == 'torch'))"
    assert run(code) == "p2pfl\n"


NEEDS_TORCH = {"simulate", "SimulationResult",
    "Elementwise", "LoadedModel", "Prediction", "TrainingRound", "UpdatePieces", "UpdateTable", "load", "rounds",
}  # fmt: skip


def test_what_needs_no_torch_imports_none() -> None:
    names = sorted(set(p2pfl.__all__) - NEEDS_TORCH)
    code = f"import p2pfl, sys; [getattr(p2pfl, name) for name in {names}]; print('torch' in sys.modules)"
    assert run(code) == "False\n"


def test_the_names_of_the_library_are_found_when_they_are_used() -> None:
    assert p2pfl.Task is interface.Task
    assert p2pfl.Node is EmbeddedNode
    assert p2pfl.UserError is errors.UserError
    assert p2pfl.events.__name__ == "p2pfl.events"
    for name in p2pfl.__all__:
        assert getattr(p2pfl, name) is not None
        assert name in dir(p2pfl)


def test_type_checkers_see_the_names_of_the_library() -> None:
    stub = ast.parse(Path(p2pfl.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    shown = {
        alias.name: statement.module
        for statement in stub.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert shown == p2pfl._HOMES  # type: ignore[attr-defined]  # not in the stub


def test_what_is_offered_says_what_it_is() -> None:
    assert [
        name for name in p2pfl.__all__ if name != "__version__" and not getattr(p2pfl, name).__doc__
    ] == []


def test_a_name_that_there_is_not_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'p2pfl' has no attribute 'nothing'"):
        p2pfl.nothing  # type: ignore[attr-defined]  # noqa: B018
