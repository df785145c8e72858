"""The rules of PROTOCOL.md: the code cites them by names that exist, and every mutation belongs to one."""

from __future__ import annotations

import re
from pathlib import Path

from p2pfl.sim.rules import RULES
from tests.support.source import PACKAGE, ROOT

SECTION = (
    (PACKAGE / "PROTOCOL.md").read_text(encoding="utf-8").split("\n## Rules\n", 1)[1].split("\n## ", 1)[0]
)
HEAD = re.compile(r"^(\d+)\. \*\*([^*]+)\.\*\* ", re.MULTILINE)
CITED = re.compile(r'\b[Rr]ules? ("[^"]+"(?:(?:,|, and| and)\s+"[^"]+")*)')
"""One name or several: `rule "Adoption"`, `rules "Joining" and "Sampling"`."""

TREES = [PACKAGE, ROOT / "tui", ROOT / "tests"]


def names() -> list[str]:
    return [name for _, name in HEAD.findall(SECTION)]


def cited(path: Path) -> set[str]:
    """Return the names of the rules that *path* cites; a citation may go on in the next line."""
    text = re.sub(r"\s*\n\s*(?:# )?", " ", path.read_text(encoding="utf-8"))
    return {name for found in CITED.findall(text) for name in re.findall(r'"([^"]+)"', found)}


def test_the_rules_are_numbered_in_order_and_no_two_have_one_name() -> None:
    assert [int(number) for number, _ in HEAD.findall(SECTION)] == list(range(1, len(names()) + 1))
    assert len(names()) == len(set(names()))


def test_every_rule_that_is_cited_exists() -> None:
    paths = [path for tree in TREES for suffix in ("*.py", "*.md") for path in tree.rglob(suffix)]
    wrong = {
        (path.name, name) for path in paths if path != Path(__file__) for name in cited(path) - set(names())
    }
    assert wrong == set()


def test_a_citation_over_two_lines_is_read(tmp_path: Path) -> None:
    path = tmp_path / "example.py"
    path.write_text('"""Accept (rules "Second check" and\n    "No such rule")."""\n# rule "Third"\n')
    assert cited(path) == {"Second check", "No such rule", "Third"}


def test_every_mutation_of_the_simulator_belongs_to_one_rule() -> None:
    assert sorted(re.findall(r"`--without ([a-z-]+)`", SECTION)) == sorted(RULES)


def test_the_table_of_mutations_names_each_with_its_rule() -> None:
    text = (PACKAGE / "sim" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z][a-z-]+)` \| ([^|:]+?)(?::[^|]*)? \|", text, re.MULTILINE)
    assert [name for name, _ in rows] == list(dict.fromkeys(name for name, _ in rows))
    assert {name for name, _ in rows} == set(RULES)
    assert {rule for _, rule in rows} <= set(names())
