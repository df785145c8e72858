"""Which requests change anything, as an operator hears it and as a peer's request is judged."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from p2pfl import events
from p2pfl.core.control import ControlRequests
from p2pfl.core.effects import SaveResumed
from p2pfl.messages import ControlRequest
from p2pfl.proofs import sign_request
from tests.support.core import chain_of, context, ledger, of_kind, sent, taken, told
from tests.support.keys import signer
from tests.support.records import NAMES, SPEC, node

KINDS: tuple[Literal["pause", "resume", "end", "end-now"], ...] = ("pause", "resume", "end", "end-now")


class Bench:
    """Ada's requests in a run of three after *rounds* records, the last of which says *then*."""

    def __init__(self, rounds: int = 1, *, then: str = "go", members: Any = NAMES[:3]) -> None:
        self.ctx = context("ada")
        self.chain = chain_of(*members, rounds=rounds - 1, spec=msgspec.structs.replace(SPEC, rounds=9))
        kind = "evaluate" if rounds > 9 else "train"
        self.chain.commit(kind=kind, then=then)
        self.ledger = ledger(self.ctx, self.chain)
        self.it = ControlRequests(self.ctx, self.ledger)

    def ask(self, what: Any, round_: Any = 1, at: Any = "ben") -> bool:
        """Ben passes on what was asked at device *at*; return whether that changes anything."""
        control_request = sign_request(signer(at), node(at), self.chain.run, round_, what, at)
        return self.it.take(control_request, node("ben"))

    def objections(self) -> dict[str, str]:
        return {what: self.it.objection(what) for what in KINDS if self.it.objection(what)}


def test_in_an_open_run_all_but_going_on_can_be_asked_for() -> None:
    assert Bench().objections() == {"resume": "the run is not paused"}


def test_in_a_paused_run_all_but_another_pause_can_be_asked_for() -> None:
    assert Bench(then="pause").objections() == {"pause": "the run is paused after round 1 already"}


@pytest.mark.parametrize(
    ("bench", "reason"),
    [
        (Bench(10, then="end"), "the run is over"),
        (Bench(members=NAMES[1:4]), "this device is no member of the run"),
    ],
    ids=["over", "no member"],
)
def test_where_nothing_can_be_asked_for_the_reason_is_said(bench: Bench, reason: str) -> None:
    objections = bench.objections()
    assert set(objections) == set(KINDS)
    assert all(text.startswith(reason) for text in objections.values())


def test_a_node_that_has_seen_two_decisions_takes_no_request() -> None:
    bench = Bench()
    bench.ledger.halted = True
    assert set(bench.objections()) == set(KINDS)
    assert "two decisions of one round were seen" in bench.it.objection("end")
    assert not bench.ask("end")


def test_what_is_wanted_already_is_not_asked_for_again() -> None:
    bench = Bench()
    assert bench.ask("pause")
    assert bench.objections() == {
        "pause": "ben at ben wanted that already; it comes with the next commit",
        "resume": "the run pauses with the next commit; it can be resumed after that",
    }
    taken(bench.ctx)
    assert not bench.ask("pause")
    assert taken(bench.ctx) == []


def test_a_request_is_passed_on_told_and_repeated_to_whoever_is_linked_later() -> None:
    bench = Bench()
    assert bench.ask("end")
    effects = taken(bench.ctx)
    assert {message.what for message in sent(effects, ControlRequest)} == {"end"}
    assert told(effects, events.ControlRequested) == [events.ControlRequested("end", "ben at ben")]
    bench.it.repeat(node("cleo"))
    assert [message.what for message in sent(taken(bench.ctx), ControlRequest)] == ["end"]


def test_going_on_lifts_the_pause_of_that_round_only_and_once() -> None:
    bench = Bench(2, then="pause")
    assert not bench.ask("resume", 1)
    assert bench.ask("resume", 2)
    effects = taken(bench.ctx)
    assert of_kind(effects, SaveResumed) == [SaveResumed(bench.chain.run, 2)]
    assert told(effects, events.Resumed) == [events.Resumed(2, "ben at ben")]
    assert bench.ledger.is_open
    assert not bench.ask("resume", 2)


def test_a_request_to_end_a_paused_run_lifts_the_pause_since_the_end_needs_a_record() -> None:
    bench = Bench(2, then="pause")
    assert bench.ask("end", 2)
    assert bench.ledger.is_open
    assert set(bench.it.open) == {"end"}


def test_a_request_from_before_the_record_that_paused_the_run_is_void() -> None:
    bench = Bench(2)
    bench.ask("pause", 1)
    bench.ask("end", 2)
    bench.ledger.settled = 2
    bench.it.settle()
    assert set(bench.it.open) == {"end"}
    assert not bench.ask("pause", 1)
