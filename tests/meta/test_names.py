"""Words: one class has one name, and code cites no page that is outside of the repository."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter

import pytest

from tests.support.source import ROOT

PACKAGES = ("p2pfl", "tui")


def class_names(code: str) -> list[str]:
    """Return the names of all classes in *code*, also those inside others and inside functions."""
    return [node.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ClassDef)]


def test_no_class_name_is_defined_twice() -> None:
    count = Counter(
        name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in class_names(path.read_text(encoding="utf-8"))
    )
    assert sorted(name for name, times in count.items() if times > 1) == []


def test_classes_inside_others_count() -> None:
    code = "class A:\n    class B: ...\ndef f():\n    class A: ..."
    assert sorted(class_names(code)) == ["A", "A", "B"]


# Written in pieces, so that this file itself is clean.
NUMBERED_RULE = re.compile(r"\b" + "rule" + r" [0-9]+")
PAGE = re.compile("DES" + "IGN")


@pytest.mark.parametrize(("pattern", "names"), [(NUMBERED_RULE, ("*.py",)), (PAGE, ())], ids=["rule", "page"])
def test_nothing_cites_a_page_outside_of_the_repository(
    pattern: re.Pattern[str], names: tuple[str, ...]
) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = [
        f"{name}:{number}"
        for name in listed.stdout.split("\0")
        if name and (path := ROOT / name).is_file()
        for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []
