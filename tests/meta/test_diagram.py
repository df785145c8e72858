"""The diagram of the aggregator's candidacy in the architecture page is the table in the code."""

from __future__ import annotations

import re

from p2pfl.core.aggregator import TRANSITIONS
from tests.support.source import PACKAGE

ARROW = re.compile(r"^ +([A-Z]+) --> ([A-Z]+)$", re.MULTILINE)


def test_the_diagram_shows_every_transition_and_no_other() -> None:
    drawn = ARROW.findall((PACKAGE / "README.md").read_text(encoding="utf-8"))
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == {(old.name, new.name) for old, following in TRANSITIONS.items() for new in following}
