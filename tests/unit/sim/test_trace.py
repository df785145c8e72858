from __future__ import annotations

from typing import Any

import pytest

from p2pfl.core.effects import DeleteUnneededBlobs as CollectBlobs
from p2pfl.core.effects import Send, Tell
from p2pfl.events import Notice
from p2pfl.messages import Accept, Accepted, Commit, Prepare, Promise, Refuse, Report, Struct
from p2pfl.sim.trace import MAX_LINE, line_of, shortened
from tests.support.core import ballot, chain_of
from tests.support.records import digest, evaluation, node, signed

CHAIN = chain_of("ada", "ben", "cleo")
COMMIT = CHAIN.commit()
RECORD = COMMIT.record
VALUE = f"model {RECORD.model[:7]} of {len(RECORD.updates)} updates"
VOTE = signed("ben", CHAIN.run, 1, ballot(2, "ada"))
NAMES = {node(name): name for name in ("ada", "ben", "cleo")}


def line(message: Any) -> str | None:
    return line_of(Send(node("ben"), message), NAMES.__getitem__)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Prepare(CHAIN.run, 1, ballot(2, "ada")), "-> ben PREPARE round 1 2 of ada"),
        (Accepted(CHAIN.run, 1, ballot(2, "ada"), digest("x"), VOTE), "-> ben ACCEPTED round 1 2 of ada"),
        (Promise(CHAIN.run, 1, ballot(2, "ada"), None, None, VOTE), "-> ben PROMISE round 1 2 of ada"),
        (
            Promise(CHAIN.run, 1, ballot(2, "ada"), ballot(1, "cleo"), RECORD, VOTE),
            f"-> ben PROMISE round 1 2 of ada, has accepted {VALUE}",
        ),
        (Accept(CHAIN.run, 1, ballot(2, "ada"), RECORD), f"-> ben ACCEPT round 1 2 of ada: {VALUE}"),
        (
            Refuse(CHAIN.run, 1, ballot(1, "ada"), ballot(2, "cleo")),
            "-> ben REFUSE round 1 1 of ada for 2 of cleo",
        ),
        (COMMIT, f"-> ben COMMIT round 1: {VALUE}"),
    ],
)
def test_a_step_of_the_protocol_is_one_line(message: Struct, expected: str) -> None:
    assert line(message) == expected
    assert isinstance(COMMIT, Commit)


def test_what_is_no_step_of_the_protocol_has_no_line() -> None:
    assert line(Report(CHAIN.run, 1, evaluation(8, 10, 2.5))) is None
    assert line_of(CollectBlobs(frozenset()), NAMES.__getitem__) is None


def test_an_event_is_shown_with_its_ids_shortened() -> None:
    told = line_of(Tell(Notice("info", f"{node('ada')} has {digest('x')}")), NAMES.__getitem__)
    assert told == f"Notice(level='info', text='{node('ada')[:7]} has {digest('x')[:7]}')"


def test_a_long_text_is_cut() -> None:
    assert len(shortened("word " * 100)) == MAX_LINE
