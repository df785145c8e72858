"""The library as a whole: `p2pfl/__init__.py`."""

from __future__ import annotations

import subprocess
import sys

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
    code = "import p2pfl, sys; p2pfl.Task, p2pfl.Agreed; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_name_that_there_is_not_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'p2pfl' has no attribute 'nothing'"):
        p2pfl.nothing  # noqa: B018
