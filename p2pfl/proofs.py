"""Signed votes and signed claims about journals, and how any node checks them.

A commit is believed because a quorum has accepted its record. Each member signs its acceptance with the key
of its certificate, and the SHA-256 of that key is the node id. So a commit is a proof that needs no trust in
its sender, now or years later. Every vote also carries the number of votes that its journal had cast by then,
which only rises. A journal that shows a lower number than before was restored or copied, and its own
signature proves that to it.

This module knows no signature algorithm: it gets a `Signer`. The real one is in `p2pfl.identity.signatures`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from p2pfl.messages import (
    Accepted,
    Ballot,
    Commit,
    ControlRequest,
    Count,
    Digest,
    DigestOrEmpty,
    JournalId,
    Member,
    Promise,
    PublicKey,
    Round,
    Signature,
    SignedVote,
    Struct,
    record_digest,
)

Verify = Callable[[str, bytes, bytes, bytes], bool]
"""Takes node id, key, signature and text; returns whether the key is the node's and the signature is the
key's."""

PROMISE, ACCEPTANCE, CLAIM = "p2pfl promise", "p2pfl acceptance", "p2pfl start"
CONTROL_REQUEST = "p2pfl control request"
"""Purpose at the beginning of every signed text: a signature for one purpose is worthless for another."""

Incarnation = Annotated[int, Meta(ge=1, le=2**53)]
Nonce = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
"""16 random bytes in hex, new at each start of a process."""

_encode = msgspec.msgpack.Encoder().encode


class Signer(msgspec.Struct, frozen=True):
    """Signs with a node's own key, and checks the signatures of others."""

    key: bytes
    """The public key."""
    sign: Callable[[bytes], bytes]
    verify: Verify


class CastVote(Struct, frozen=True):
    """A vote and what it was cast for: everything needed to check it."""

    run: Digest
    round: Round
    ballot: Ballot
    record: DigestOrEmpty
    """Digest of the accepted record; empty for a promise."""
    vote: SignedVote

    def is_valid(self, verify: Verify) -> bool:
        """Whether the member that it names has signed it."""
        vote = self.vote
        text = _vote_text(self.run, self.round, self.ballot, self.record, vote.node, vote.journal, vote.votes)
        return verify(vote.node, vote.key, vote.signature, text)


class Claim(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A node's signed claim about its journal, sent when it introduces itself."""

    journal: JournalId
    incarnation: Incarnation
    """Number of starts with this journal, including this one."""
    nonce: Nonce
    votes: Count
    """Number of votes that this journal has cast."""
    key: PublicKey
    signature: Signature

    def is_valid(self, node: str, verify: Verify) -> bool:
        """Whether *node* has signed it."""
        text = _claim_text(node, self.journal, self.incarnation, self.nonce, self.votes)
        return verify(node, self.key, self.signature, text)


class JournalEvidence(msgspec.Struct, frozen=True):
    """The newest evidence of another node's journal, as that node signed it."""

    claim: Claim | None = None
    """Claim of its last start; None where only votes of it were seen."""
    cast: CastVote | None = None
    """Its newest vote."""

    @property
    def votes(self) -> int:
        """Number of votes that it has cast, as far as is known."""
        of_claim = self.claim.votes if self.claim is not None else 0
        return max(of_claim, self.cast.vote.votes) if self.cast is not None else of_claim

    def with_vote(self, cast: CastVote | None) -> JournalEvidence:
        """Return this evidence with *cast*, if that vote is newer."""
        if cast is None or (self.cast is not None and self.cast.vote.votes >= cast.vote.votes):
            return self
        return JournalEvidence(self.claim, cast)


def sign_vote(
    signer: Signer, me: Member, run: str, round_: int, ballot: Ballot, record: str, votes: int
) -> SignedVote:
    """Sign an acceptance by *me* of *record* in *ballot*, or a promise of *ballot* if *record* is empty."""
    text = _vote_text(run, round_, ballot, record, me.node, me.journal, votes)
    return SignedVote(me.node, me.journal, votes, signer.key, signer.sign(text))


def sign_claim(signer: Signer, me: Member, incarnation: int, nonce: str, votes: int) -> Claim:
    """Sign a claim of *me* about its journal."""
    text = _claim_text(me.node, me.journal, incarnation, nonce, votes)
    return Claim(me.journal, incarnation, nonce, votes, signer.key, signer.sign(text))


def sign_request(
    signer: Signer,
    node: str,
    run: str,
    round_: int,
    what: Literal["pause", "resume", "end", "end-now"],
    by: str,
) -> ControlRequest:
    """Sign a control request that *by* gave at *node*."""
    text = _request_text(node, run, round_, what, by)
    return ControlRequest(run, round_, what, by, node, signer.key, signer.sign(text))


def is_request_valid(control_request: ControlRequest, verify: Verify) -> bool:
    """Whether the node at which *control_request* was given has signed it."""
    text = _request_text(
        control_request.node,
        control_request.run,
        control_request.round,
        control_request.what,
        control_request.by,
    )
    return verify(control_request.node, control_request.key, control_request.signature, text)


def cast_of(message: Promise | Accepted) -> CastVote:
    """Return the vote in *message*, not checked yet."""
    record = message.record if isinstance(message, Accepted) else ""
    return CastVote(message.run, message.round, message.ballot, record, message.vote)


def casts_of(commit: Commit) -> list[CastVote]:
    """Return the acceptances of *commit*, not checked yet."""
    record = commit.record
    digest = record_digest(record)
    return [CastVote(record.run, record.round, commit.ballot, digest, vote) for vote in commit.acceptors]


def accepted_by(commit: Commit, voters: frozenset[Member] | set[Member], verify: Verify) -> set[Member]:
    """Return those of *voters* that have accepted *commit*, according to their own signatures."""
    first: dict[Member, CastVote] = {}
    for cast in casts_of(commit):
        if cast.vote.member in voters:
            first.setdefault(cast.vote.member, cast)  # a check is slow: one for each member at most
    return {member for member, cast in first.items() if cast.is_valid(verify)}


def _vote_text(
    run: str, round_: int, ballot: Ballot, record: str, node: str, journal: str, votes: int
) -> bytes:
    what = ACCEPTANCE if record else PROMISE
    return _encode((what, run, round_, ballot, record, node, journal, votes))


def _request_text(node: str, run: str, round_: int, what: str, by: str) -> bytes:
    return _encode((CONTROL_REQUEST, node, run, round_, what, by))


def _claim_text(node: str, journal: str, incarnation: int, nonce: str, votes: int) -> bytes:
    return _encode((CLAIM, node, journal, incarnation, nonce, votes))
