"""Where things lie: a newcomer finds a module's tests by its path, and nothing strays into the top folder."""

from __future__ import annotations

from tests.support.source import PACKAGE, ROOT

UNIT = ROOT / "tests" / "unit"

TESTS_OF_PACKAGES = {"cli/test_main.py": "cli/__init__.py"}
"""Unit tests named otherwise than their source: a package's own `__init__` has no name of its own."""

TOP = {"p2pfl", "tui", "certs", "tests", "pyproject.toml", "README.md", "LICENSE"}
"""All that may lie at the top, besides files that begin with a dot."""

MADE = {"build", "dist", "__pycache__"}
"""What tools make there; never committed."""


def test_every_unit_test_has_its_source():
    strays = []
    for path in sorted(UNIT.rglob("*.py")):
        relative = path.relative_to(UNIT).as_posix()
        source = TESTS_OF_PACKAGES.get(
            relative, (path.relative_to(UNIT).parent / path.name.removeprefix("test_")).as_posix()
        )
        if not path.name.startswith("test_") or not (PACKAGE / source).is_file():
            strays.append(relative)
    assert strays == []


def test_every_exception_from_that_is_needed():
    assert all((UNIT / test).is_file() for test in TESTS_OF_PACKAGES)
    assert all((PACKAGE / source).is_file() for source in TESTS_OF_PACKAGES.values())


def test_the_top_folder_holds_what_was_agreed_on():
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert {name for name in found - MADE - TOP if not name.endswith(".egg-info")} == set()
    assert found >= {"p2pfl", "certs", "tests", "pyproject.toml", "README.md", "LICENSE"}
