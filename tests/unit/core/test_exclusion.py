from __future__ import annotations

from typing import Any

from p2pfl.core.effects import Dismiss
from p2pfl.core.exclusion import Exclusion, decide_sparing
from tests.support.core import context, ledger, link, taken, unlink
from tests.support.records import NAMES, node

BEN = node("ben")


def every(effects: Any, kind: Any) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]


def test_members_are_spared_only_while_the_others_are_no_quorum() -> None:
    roster = ledger(context()).roster
    ben = frozenset({BEN})
    assert decide_sparing(roster, ben, seated=2, needed=2) == (frozenset(), "2 others are here, 2 are needed")
    spared, why = decide_sparing(roster, ben, seated=1, needed=2)
    assert spared == ben
    assert why == "only 1 others are here, 2 are needed: their votes decide until then"
    assert decide_sparing(roster, frozenset({node("eve")}), seated=0, needed=2)[0] == frozenset()


def it(*linked: str) -> tuple[Any, Exclusion, Any]:
    ctx = context("ada", linked=linked)
    return ctx, Exclusion(ctx), ledger(ctx)


def test_the_link_of_a_banned_node_is_closed_once() -> None:
    ctx, exclusion, its = it(*NAMES[1:3])
    ctx.banned = {BEN: "is banned by desk"}
    exclusion.consider(its)
    assert every(taken(ctx), Dismiss) == [Dismiss(BEN, "ben is banned by desk")]
    assert exclusion.ignores(BEN)
    exclusion.consider(its)
    assert taken(ctx) == []
    ctx.now += 1.0
    link(ctx, "ben")
    exclusion.consider(its)
    assert every(taken(ctx), Dismiss) == [Dismiss(BEN, "ben is banned by desk")]


def test_a_needed_member_stays_linked_until_the_others_are_enough() -> None:
    ctx, exclusion, its = it("ben")
    ctx.banned = {BEN: "is banned by desk"}
    exclusion.consider(its)
    assert (exclusion.spared, exclusion.ignores(BEN)) == (frozenset({BEN}), False)
    assert taken(ctx) == []
    link(ctx, NAMES[2])
    exclusion.consider(its)
    assert (exclusion.spared, exclusion.ignores(BEN)) == (frozenset(), True)
    assert every(taken(ctx), Dismiss) == [Dismiss(BEN, "ben is banned by desk")]


def test_nobody_is_needed_outside_an_open_run() -> None:
    ctx, exclusion, _ = it("ben")
    ctx.banned = {BEN: "is banned by desk"}
    exclusion.consider(None)
    assert exclusion.spared == frozenset()
    assert every(taken(ctx), Dismiss) == [Dismiss(BEN, "ben is banned by desk")]


def test_a_kicked_member_keeps_a_later_link_and_is_forgotten_once_it_is_out() -> None:
    ctx, exclusion, its = it(*NAMES[1:3])
    ctx.kicked[BEN] = "was kicked by desk", ctx.now
    exclusion.consider(its)
    assert every(taken(ctx), Dismiss) == [Dismiss(BEN, "ben was kicked by desk")]
    assert not exclusion.ignores(BEN)
    unlink(ctx, "ben")
    ctx.now += 1.0
    link(ctx, "ben")
    exclusion.consider(its)
    assert taken(ctx) == []
    assert BEN in ctx.kicked
    its.roster = tuple(entry for entry in its.roster if entry.node != BEN)
    exclusion.consider(its)
    assert ctx.kicked == {}


def test_without_anybody_kept_out_there_is_nothing_to_do() -> None:
    ctx, exclusion, its = it("ben")
    exclusion.spared = frozenset({BEN})
    exclusion.consider(its)
    assert (exclusion.spared, taken(ctx)) == (frozenset(), [])
