"""DECISIONS.md: every decision says its context, itself, its consequence and its figure, once and in this order."""

from __future__ import annotations

import re

import pytest

from tests.support.source import PACKAGE

TEXT = (PACKAGE / "DECISIONS.md").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^### (\d+)\. ([^\n]+)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
TITLES = [title for _, title, _ in ENTRIES]


def test_decisions_are_numbered_in_order_and_no_two_have_one_title() -> None:
    assert [int(number) for number, _, _ in ENTRIES] == list(range(1, len(ENTRIES) + 1))
    assert len(set(TITLES)) == len(TITLES)


@pytest.mark.parametrize(("title", "body"), [entry[1:] for entry in ENTRIES], ids=TITLES)
def test_a_decision_has_its_four_parts_in_order(title: str, body: str) -> None:
    assert re.findall(r"^- \*\*(\w+)\.\*\* \S", body, re.MULTILINE) == [
        "Context",
        "Decision",
        "Consequence",
        "Figure",
    ], title


def test_a_decision_that_another_one_names_exists() -> None:
    assert set(re.findall(r'\(see "([^"]+)"\)', TEXT)) <= set(TITLES)
