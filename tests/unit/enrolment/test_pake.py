from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from p2pfl.enrolment.pake import Pake, PakeMessage, SharedKeys, TlsBinding, transcript_of
from p2pfl.errors import ProtocolError

BINDING = TlsBinding(b"certificate", b"finished")
CODE = "lemon-tiger-voyage"


def exchange(
    joiner_code: str = CODE,
    inviter_code: str = CODE,
    joiner_binding: TlsBinding = BINDING,
    inviter_binding: TlsBinding = BINDING,
    meddle: Callable[[PakeMessage], PakeMessage] = lambda message: message,
) -> tuple[SharedKeys, SharedKeys]:
    """Return the keys of both sides; *meddle* changes what the inviter gets."""
    joiner, inviter = Pake("joiner", joiner_code), Pake("inviter", inviter_code)
    return (
        joiner.finish(inviter.message, joiner_binding),
        inviter.finish(meddle(joiner.message), inviter_binding),
    )


def test_one_code_on_one_connection_gives_both_sides_the_same_keys() -> None:
    joiner, inviter = exchange()
    assert joiner == inviter
    assert inviter.is_proof("joiner", joiner.proof("joiner"))
    assert joiner.is_proof("inviter", inviter.proof("inviter"))
    assert inviter.is_mac("joiner", b"wish", joiner.mac("joiner", b"wish"))


@pytest.mark.parametrize(
    "keys",
    [
        exchange(joiner_code="lemon-tiger-zebra"),
        exchange(joiner_binding=TlsBinding(b"another certificate", b"finished")),
        exchange(joiner_binding=TlsBinding(b"certificate", b"another connection")),
        exchange(meddle=lambda message: PakeMessage(bytes(32), message.element)),
        exchange(meddle=lambda message: PakeMessage(message.nonce, Pake("joiner", CODE).message.element)),
    ],
    ids=["code", "certificate", "connection", "nonce", "element"],
)
def test_whatever_differs_the_proofs_fail(keys: tuple[SharedKeys, SharedKeys]) -> None:
    joiner, inviter = keys
    assert not inviter.is_proof("joiner", joiner.proof("joiner"))
    assert not joiner.is_proof("inviter", inviter.proof("inviter"))
    assert not inviter.is_mac("joiner", b"wish", joiner.mac("joiner", b"wish"))


def test_a_value_of_one_side_or_purpose_serves_for_no_other() -> None:
    joiner, _ = exchange()
    values = [
        joiner.proof("joiner"),
        joiner.proof("inviter"),
        joiner.mac("joiner", joiner.transcript),
        joiner.mac("inviter", joiner.transcript),
    ]
    assert len(set(values)) == 4
    assert not joiner.is_mac("joiner", b"other", joiner.mac("joiner", b"wish"))


def test_two_exchanges_with_one_code_have_nothing_in_common() -> None:
    first, second = exchange()[0], exchange()[0]
    assert first.secret != second.secret
    assert first.transcript != second.transcript


def test_parts_of_the_transcript_cannot_be_moved_into_each_other() -> None:
    pairs = [TlsBinding(b"certificate", b"ab"), TlsBinding(b"certificate", b"abc")]
    nonces = [PakeMessage(b"c" + bytes(31), b"e"), PakeMessage(bytes(31), b"e")]

    found = {
        transcript_of(binding, joiner, nonces[0]) for binding, joiner in itertools.product(pairs, nonces)
    }
    assert len(found) == 4


@pytest.mark.parametrize(
    "element",
    [bytes(33), b"A" + bytes(32), b"A" + b"\xff" * 32, b"B" + bytes(32), b"A" + b"\x01" + bytes(31)],
)
def test_what_is_no_element_of_the_group_is_refused(element: bytes) -> None:
    with pytest.raises(ProtocolError, match="not valid"):
        Pake("inviter", CODE).finish(PakeMessage(bytes(32), element), BINDING)


def test_its_own_message_sent_back_is_refused() -> None:
    inviter = Pake("inviter", CODE)
    with pytest.raises(ProtocolError, match="not valid"):
        inviter.finish(inviter.message, BINDING)
