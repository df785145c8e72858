"""Each exit code of a node means one thing, and the table for its users has them all."""

from __future__ import annotations

import ast
import re

from tests.support.source import PACKAGE

NODE = [
    *(PACKAGE / "core").glob("*.py"),
    *(PACKAGE / "runtime").glob("*.py"),
    PACKAGE / "cli" / "__init__.py",
]
"""What a node's exit code can come from."""

SAME = {"ERROR": "UNFIT", "BUG": "FAULT"}
"""Two names of one meaning: the command line's, and the one further down."""


def codes() -> dict[str, set[int]]:
    """Return the values of the constants that are exit codes, by what they mean."""
    found: dict[str, set[int]] = {}
    for path in NODE:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                meaning = name.removesuffix("_EXIT").removeprefix("EXIT_")
                if meaning != name:
                    found.setdefault(SAME.get(meaning, meaning), set()).add(ast.literal_eval(node.value))
    return found


def test_no_two_ends_of_a_node_have_one_exit_code():
    values = [value for meant in codes().values() for value in meant]
    assert len(values) == len(set(values)), codes()


def test_the_table_of_exit_codes_is_complete():
    text = (PACKAGE / "README.md").read_text().split("## Exit codes of `p2pfl node`", 1)[1]
    told = [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    assert told == sorted(value for meant in codes().values() for value in meant)
