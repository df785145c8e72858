"""Statements about members: an operator, or the CA, kicks a node, bans it, or lifts a ban.

A statement is signed, and carries the certificate of its signer. So everybody can check it without a
connection to anybody, now or years later, and no member needs to trust the one that passed it on. Who signed
is checked by `p2pfl.identity.signatories`; this module has the shape of a statement, what is signed, and the
rule that says which of several statements about a node holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from p2pfl.messages import Count, Name, NodeId, Reason, Signature

STATEMENT = "p2pfl statement"
"""Purpose at the beginning of the signed text: a signature for one purpose is worthless for another."""

MAX_CERTIFICATE_BYTES = 2048
"""Limit of a signer's certificate in DER; those of `p2pfl certs issue` have 700 bytes."""

MAX_STATEMENTS = 1024
"""Maximum number of remembered statements: one of each of four signers about each member of the largest
roster. Only operators and the CA can add to them."""

MAX_CRL_BYTES = 256 * 1024
"""Limit of a revocation list in DER: about two thousand revoked keys, a quarter of a frame."""

What = Literal["kick", "ban", "unban"]
"""What a statement says. A "kick" ends one start of a node; a "ban" holds until it is lifted."""

_encode = msgspec.msgpack.Encoder().encode


REVOKED = "is kept out: its certificate was revoked by the CA"
"""What is said of a key in the revocation list, as `Signed.sentence`."""

KICKED = "was kicked by "
"""Begins what is said of a node that was kicked, as `Signed.sentence`."""

_PHRASES = (f" {KICKED}", " is banned by ", f" {REVOKED}")


class Statement(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A signed statement about a node."""

    what: What
    node: NodeId
    """The node that it is about: its key, whatever certificate it shows."""
    name: Name
    """That node's name, for people. Untrusted text."""
    number: Annotated[int, Meta(ge=1, le=2**53)]
    """Milliseconds since the epoch by the signer's clock, and above the numbers of earlier statements about
    the node that the signer knew. Of two statements, the one with the higher number holds."""
    incarnation: Count
    """With "kick": the last start of the node's journal that it ends. 0 otherwise."""
    reason: Reason
    """Half a sentence for people, may be empty. Untrusted text."""
    certificate: Annotated[bytes, Meta(min_length=1, max_length=MAX_CERTIFICATE_BYTES)]
    """DER of the signer's certificate: an operator's, or the CA's own."""
    signature: Signature

    @property
    def text(self) -> bytes:
        """What is signed."""
        return signed_text(self.what, self.node, self.name, self.number, self.incarnation, self.reason)

    @property
    def at(self) -> float:
        """When it was made, in seconds since the epoch, as its signer says."""
        return self.number / 1000


def signed_text(what: What, node: str, name: str, number: int, incarnation: int, reason: str) -> bytes:
    """Return what the signer of a statement signs."""
    return _encode((STATEMENT, what, node, name, number, incarnation, reason))


class Signatory(msgspec.Struct, frozen=True):
    """The signer of a statement, as its certificate proves it."""

    name: str
    """For people, as "desk (operator)" or "the CA"."""
    is_authority: bool
    """Whether the CA itself signed."""
    key: str
    """The id of its key, as the node id of a node."""
    serial: int = 0
    """Serial number of its certificate."""


class Signed(msgspec.Struct, frozen=True):
    """A statement whose signature and certificate are verified."""

    statement: Statement
    by: Signatory

    @property
    def is_lasting(self) -> bool:
        """Whether it is about a ban, and not about one start of the node."""
        return self.statement.what != "kick"

    @property
    def sentence(self) -> str:
        """Say what was done, by whom and why, as half a sentence after the node's name."""
        done = {"kick": "was kicked", "ban": "is banned", "unban": "is not banned any more"}
        why = f": {self.statement.reason}" if self.statement.reason else ""
        return f"{done[self.statement.what]} by {self.by.name}{why}"


def exclusions_in(note: str) -> list[str]:
    """Return the parts of a record's *note* that say which member was kept out, by whom and why."""
    return [part for part in note.split("; ") if any(phrase in part for phrase in _PHRASES)]


def _age(signed: Signed) -> tuple[int, bool, bytes]:
    """Order statements, the newest last; of two with one number, a ban is the newer."""
    return signed.statement.number, signed.statement.what == "ban", signed.statement.signature


class StatementBook:
    """The newest statement of each signer about each node, and what holds of them.

    The order in which statements arrive does not matter: all nodes that know the same ones agree.
    """

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str, bool], Signed] = {}
        """By node, key of the signer, and whether it is about a ban."""

    def knows(self, statement: Statement) -> bool:
        """Whether *statement*, to the bit, is known."""
        return any(one.statement == statement for one in self._newest.values())

    def take(self, signed: Signed) -> bool:
        """Remember *signed*; return whether it is news. A full book takes no further signer or node."""
        key = (signed.statement.node, signed.by.key, signed.is_lasting)
        known = self._newest.get(key)
        if known is None and len(self._newest) >= MAX_STATEMENTS:
            return False
        if known is not None and _age(known) >= _age(signed):
            return False
        self._newest[key] = signed
        return True

    def discard(self, is_void: Callable[[Signatory], bool]) -> None:
        """Forget the statements of signers for which *is_void* returns True."""
        self._newest = {key: one for key, one in self._newest.items() if not is_void(one.by)}

    def all(self) -> list[Signed]:
        """Return all remembered statements, the oldest first."""
        return sorted(self._newest.values(), key=_age)

    def number_of(self, node: str) -> int:
        """Return the highest number of a statement about *node*; 0 without one."""
        return max((one.statement.number for key, one in self._newest.items() if key[0] == node), default=0)

    def ban_of(self, node: str) -> Signed | None:
        """Return the ban that holds for *node*; None if none does.

        A ban by the CA holds until the CA lifts it, and what the CA says voids all that operators said
        before. Otherwise the newest word of any operator holds.
        """
        said = [one for key, one in self._newest.items() if key[0] == node and key[2]]
        authority = max((one for one in said if one.by.is_authority), key=_age, default=None)
        operator = max((one for one in said if not one.by.is_authority), key=_age, default=None)
        if authority is not None and authority.statement.what == "ban":
            return authority
        if operator is None or operator.statement.what != "ban":
            return None
        if authority is not None and authority.statement.number >= operator.statement.number:
            return None
        return operator

    def lift_of(self, node: str) -> Signed | None:
        """Return the newest statement that lifts the ban of *node*; None if it is banned, or never was."""
        if self.ban_of(node) is not None:
            return None
        said = (one for key, one in self._newest.items() if key[0] == node and one.statement.what == "unban")
        return max(said, key=lambda one: (one.by.is_authority, _age(one)), default=None)

    def kick_of(self, node: str, incarnation: int) -> Signed | None:
        """Return the kick that ended the start *incarnation* of *node*; None if none did."""
        kicks = (one for key, one in self._newest.items() if key[0] == node and not key[2])
        ending = (one for one in kicks if one.statement.incarnation >= incarnation)
        return max(ending, key=_age, default=None)

    def bans(self) -> dict[str, Signed]:
        """Return the bans that hold, by node."""
        held = ((node, self.ban_of(node)) for node in dict.fromkeys(key[0] for key in self._newest))
        return {node: ban for node, ban in held if ban is not None}
