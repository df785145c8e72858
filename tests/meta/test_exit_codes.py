"""The table of exit codes, on whatever page it stands, is the one of the enum."""

from __future__ import annotations

import ast
import re

from p2pfl.exit_codes import ExitCode
from tests.support.source import ROOT, modules

HEADING = "## Exit codes"


def test_the_table_of_exit_codes_is_that_of_the_enum() -> None:
    pages = [page.read_text(encoding="utf-8") for page in ROOT.glob("p2pfl/**/*.md")]
    [text] = [page.split(f"\n{HEADING}", 1)[1] for page in pages if f"\n{HEADING}" in page]
    told = re.findall(r"^\| (\d+) \| (.*) \|$", text.split("\n## ", 1)[0], re.MULTILINE)
    assert told == [(str(int(code)), code.meaning) for code in ExitCode]


def test_no_program_ends_with_a_number_of_its_own() -> None:
    numbers = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"sys.exit", "typer.Exit", "Exit"}:
                found = [one for one in node.args if isinstance(one, ast.Constant)]
                numbers += [(path.relative_to(ROOT).as_posix(), one.lineno) for one in found]
    assert numbers == []
