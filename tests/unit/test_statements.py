from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.statements import (
    MAX_STATEMENTS,
    Signatory,
    Signed,
    Statement,
    StatementBook,
    exclusions_in,
    signed_text,
)

ADA, BEN = "a" * 52, "b" * 52
CA = Signatory("the CA", True, "k" * 52)
DESK, LAB = Signatory("desk (operator)", False, "d" * 52), Signatory("lab (operator)", False, "l" * 52)


def said(what: Any, number: int, by: Signatory = DESK, node: str = BEN, incarnation: int = 0) -> Signed:
    statement = Statement(what, node, "ben", number, incarnation, "why", b"c", by.key.encode()[:8])
    return Signed(statement, by)


def book(*signed: Signed) -> StatementBook:
    made = StatementBook()
    for one in signed:
        made.take(one)
    return made


def test_a_ban_holds_until_a_later_statement_lifts_it() -> None:
    ban, lift = said("ban", 5), said("unban", 6)
    assert book(ban).bans() == {BEN: ban}
    assert book(ban, lift).ban_of(BEN) is None
    assert book(lift, ban).ban_of(BEN) is None, "the order of arrival does not matter"
    assert book(lift, said("ban", 7)).ban_of(BEN) == said("ban", 7)


def test_of_two_statements_with_one_number_the_ban_holds() -> None:
    for first, second in ((said("ban", 5), said("unban", 5)), (said("unban", 5), said("ban", 5))):
        assert book(first, second).ban_of(BEN) == said("ban", 5)


def test_one_operator_may_lift_the_ban_of_another() -> None:
    assert book(said("ban", 5, DESK), said("unban", 6, LAB)).ban_of(BEN) is None
    assert book(said("ban", 6, DESK), said("unban", 5, LAB)).ban_of(BEN) == said("ban", 6, DESK)


def test_the_ca_decides_over_operators() -> None:
    by_ca = said("ban", 5, CA)
    assert book(by_ca, said("unban", 9)).ban_of(BEN) == by_ca
    assert book(said("ban", 4), said("unban", 5, CA)).ban_of(BEN) is None
    assert book(said("ban", 6), said("unban", 5, CA)).ban_of(BEN) == said("ban", 6), "it was said afterwards"


def test_a_statement_without_effect_names_no_lift() -> None:
    assert book(said("ban", 5)).lift_of(BEN) is None
    assert book().lift_of(BEN) is None
    assert book(said("ban", 5), said("unban", 6)).lift_of(BEN) == said("unban", 6)
    assert book(said("unban", 9), said("unban", 6, CA)).lift_of(BEN) == said("unban", 6, CA)


def test_a_kick_ends_the_starts_up_to_its_own_and_lifts_no_ban() -> None:
    kicked = said("kick", 8, incarnation=3)
    made = book(said("ban", 5), kicked)
    assert made.ban_of(BEN) == said("ban", 5)
    assert (made.kick_of(BEN, 3), made.kick_of(BEN, 2), made.kick_of(BEN, 4)) == (kicked, kicked, None)
    assert made.kick_of(ADA, 1) is None


def test_older_statements_of_a_signer_and_repeated_ones_are_no_news() -> None:
    made = book(said("ban", 5))
    assert made.knows(said("ban", 5).statement)
    assert not made.take(said("ban", 5))
    assert not made.take(said("unban", 4))
    assert made.take(said("unban", 6))
    assert made.number_of(BEN) == 6
    assert made.number_of(ADA) == 0


def test_without_the_statements_of_a_void_signer_earlier_ones_hold_again() -> None:
    made = book(said("ban", 5, LAB), said("unban", 6, DESK))
    made.discard(lambda by: by == DESK)
    assert made.ban_of(BEN) == said("ban", 5, LAB)
    assert made.all() == [said("ban", 5, LAB)]


def test_a_full_book_takes_no_further_node() -> None:
    nodes = [f"{index:052d}".translate(str.maketrans("0189", "abcd")) for index in range(MAX_STATEMENTS)]
    made = book(*(said("ban", 5, node=node) for node in nodes))
    assert len(made.all()) == MAX_STATEMENTS
    assert not made.take(said("ban", 5, node=BEN))
    assert made.take(said("unban", 6, node=nodes[0])), "what is known can still be replaced"


def test_the_signed_text_has_every_field_but_certificate_and_signature() -> None:
    one = said("kick", 8, incarnation=3).statement
    assert msgspec.msgpack.decode(one.text) == ["p2pfl statement", "kick", BEN, "ben", 8, 3, "why"]
    assert one.text == signed_text("kick", BEN, "ben", 8, 3, "why")
    assert one.at == 0.008


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("kick", "was kicked by desk (operator): why"),
        ("ban", "is banned by desk (operator): why"),
        ("unban", "is not banned any more by desk (operator): why"),
    ],
)
def test_a_statement_reads_as_a_sentence(what: str, sentence: str) -> None:
    assert said(what, 1).sentence == sentence


def test_the_note_of_a_record_tells_who_was_kept_out() -> None:
    ban = f"ben {said('ban', 1).sentence}"
    assert exclusions_in(f"joined: dan; {ban}; left: cas") == [ban]
    assert exclusions_in("joined: dan") == []
