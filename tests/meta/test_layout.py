"""Where things lie: a module and its tests are found by each other's path, and nothing strays into the top folder."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.source import PACKAGE, ROOT

TESTS = ROOT / "tests"

MIRRORS = {PACKAGE: TESTS / "unit", ROOT / "tui": TESTS / "tui"}
"""Where the tests of a package lie: `core/roster.py` is tested in `core/test_roster.py` there."""

OTHER_NAMES = {
    "p2pfl": "unit/test_library.py",
    "p2pfl.cli": "unit/cli/test_main.py",
    "tui.__main__": "tui/test_main.py",
}
"""Modules whose own name would say nothing in that of a test."""

TESTED_AS_A_WHOLE = {
    "p2pfl.errors": "unit/wire/test_codec.py",
    "p2pfl.core.inputs": "unit/core/test_speculation.py",
    "p2pfl.demo.run": "unit/cli/test_demo.py",
    "p2pfl.examples": "net/test_example_processes.py",
    "p2pfl.cli.inviting": "net/test_enrolment_processes.py",
    "p2pfl.enrolment.channel": "net/test_enrolment.py",
    "p2pfl.enrolment.inviter": "net/test_enrolment.py",
    "p2pfl.enrolment.joiner": "net/test_enrolment.py",
    "p2pfl.exit_codes": "meta/test_exit_codes.py",
    "p2pfl.learning.own.templates": "unit/learning/own/test_task.py",
    "p2pfl.net.bulk.dial_back": "net/test_dial_back.py",
    "p2pfl.net.bulk.transfer": "net/test_pull.py",
    "p2pfl.net.links.handshake": "net/test_identity.py",
    "p2pfl.net.links.peers": "net/test_mesh.py",
    "p2pfl.net.mesh": "net/test_mesh.py",
    "p2pfl.net.neighbours": "net/test_mesh.py",
    "p2pfl.net.transport.acceptor": "net/test_strangers.py",
    "p2pfl.net.transport.pending": "net/test_strangers.py",
    "p2pfl.net.transport.stream": "net/test_mesh.py",
    "p2pfl.store.partial": "unit/store/test_blobs.py",
    "p2pfl.store.wal": "unit/store/test_journal.py",
    "tui.app": "tui/test_keys.py",
    "tui.control": "tui/test_replay.py",
    "tui.dialogs": "tui/test_keys.py",
    "tui.session": "tui/test_keys.py",
    "tui.export": "tui/test_keys.py",
    "tui.screens": "tui/test_screens.py",
    "tui.views": "tui/test_screens.py",
}
"""Modules, and packages of them, that have no tests of their own: they mean something only together, between two
real sockets, in a whole store, on a whole screen. Where that is tested."""

STORIES = {"fresh", "keys", "metrics", "open_round", "plain", "replay", "screens", "terminal", "waiting"}
"""Tests of the terminal UI as a whole, named by what they do to it."""

TOP = {"p2pfl", "tui", "certs", "tests", "pyproject.toml", "README.md", "LICENSE"}
"""All that may lie at the top, besides files that begin with a dot."""

MADE = {"build", "dist", "__pycache__"}
"""What tools make there; never committed."""


def dotted(source: Path) -> str:
    """Return the name *source* is imported by."""
    return ".".join(source.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def own_test(source: Path) -> Path:
    """Return where the tests of the module *source* belong."""
    if (other := OTHER_NAMES.get(dotted(source))) is not None:
        return TESTS / other
    package = next(package for package in MIRRORS if package in source.parents)
    return MIRRORS[package] / source.relative_to(package).parent / f"test_{source.name}"


def does_something(source: Path) -> bool:
    """Whether the module *source* has any function: types and constants are tested with what uses them."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree))


def is_tested_as_a_whole(source: Path) -> bool:
    name = dotted(source)
    return any(name == part or name.startswith(f"{part}.") for part in TESTED_AS_A_WHOLE)


SOURCES = [source for package in MIRRORS for source in sorted(package.rglob("*.py"))]


def test_every_module_has_its_tests() -> None:
    missing = [
        f"{dotted(source)}: {own_test(source).relative_to(ROOT)}"
        for source in SOURCES
        if does_something(source) and not own_test(source).is_file() and not is_tested_as_a_whole(source)
    ]
    assert missing == []


def test_every_unit_test_has_its_source() -> None:
    tests = {own_test(source) for source in SOURCES}
    found = {path for folder in MIRRORS.values() for path in folder.rglob("*.py")}
    stories = {TESTS / "tui" / f"test_{story}.py" for story in STORIES} | {TESTS / "tui" / "conftest.py"}
    assert sorted(path.relative_to(ROOT).as_posix() for path in found - tests - stories) == []


@pytest.mark.parametrize("name", [*OTHER_NAMES, *TESTED_AS_A_WHOLE])
def test_every_exception_from_that_is_needed(name: str) -> None:
    path = TESTS / (OTHER_NAMES.get(name) or TESTED_AS_A_WHOLE[name])
    assert path.is_file(), "where it is tested"
    covered = [source for source in SOURCES if f"{dotted(source)}.".startswith(f"{name}.")]
    assert covered, "there is no such module"
    assert name in OTHER_NAMES or not any(own_test(source).is_file() for source in covered)


def test_the_top_folder_holds_what_was_agreed_on() -> None:
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert {name for name in found - MADE - TOP if not name.endswith(".egg-info")} == set()
    assert found >= {"p2pfl", "certs", "tests", "pyproject.toml", "README.md", "LICENSE"}
