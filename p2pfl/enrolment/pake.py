"""The password-authenticated key exchange (PAKE) of an invitation: SPAKE2, bound to its TLS connection.

Both sides know the code. SPAKE2 (Abdalla and Pointcheval 2005; package `spake2`, group Ed25519) makes of it a
key that nobody else has, and an attacker who takes part learns only whether one guess of the code was right.
PROTOCOL.md, "Enrolment", has the exact bytes and test vectors.

A relay that ends TLS on both sides must not be able to pass the exchange on. So all keys are derived from a
*transcript* that holds what the two TLS connections of a relay never share: the inviter's certificate, and
the Finished message of the TLS client, which is a MAC over the whole TLS handshake.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from spake2 import SPAKE2_A, SPAKE2_B, SPAKEError
from spake2.ed25519_basic import NotOnCurve

from p2pfl.errors import ProtocolError

Side = Literal["joiner", "inviter"]

NONCE_BYTES = 32
ELEMENT_BYTES = 33
"""A SPAKE2 message: one byte that names the side, and a point."""
MAC_BYTES = 32

LABEL = b"p2pfl enrolment 1"
"""Begins each transcript; another version of the exchange has another one."""

JOINER, INVITER = b"p2pfl joiner", b"p2pfl inviter"
"""The identities idA and idB of SPAKE2."""


@dataclass(frozen=True)
class TlsBinding:
    """What identifies a TLS connection to both of its ends, and differs between any two."""

    certificate: bytes
    """The inviter's certificate, DER."""
    finished: bytes
    """The client's Finished message (Python calls it "tls-unique")."""


@dataclass(frozen=True)
class PakeMessage:
    """What each side sends first."""

    nonce: bytes
    element: bytes


class Pake:
    """One side of one exchange. It must not be used twice."""

    def __init__(self, side: Side, code: str, entropy: Callable[[int], bytes] = os.urandom) -> None:
        """Take part as *side* with *code*, as `parse_code` returns it."""
        kind = SPAKE2_A if side == "joiner" else SPAKE2_B
        self._side = side
        self._spake: Any = kind(code.encode(), idA=JOINER, idB=INVITER, entropy_f=entropy)
        self.message = PakeMessage(entropy(NONCE_BYTES), self._spake.start())

    def finish(self, theirs: PakeMessage, binding: TlsBinding) -> SharedKeys:
        """Return the keys, which equal those of the other side only if both have one code and one connection.

        Raises:
            ProtocolError: the other side's message is no element of the group, or is this side's own.
        """
        try:
            secret: bytes = self._spake.finish(theirs.element)
        except (SPAKEError, ValueError, NotOnCurve) as error:
            raise ProtocolError("its message of the key exchange is not valid") from error
        joiner, inviter = (self.message, theirs) if self._side == "joiner" else (theirs, self.message)
        return SharedKeys(secret, transcript_of(binding, joiner, inviter))


@dataclass(frozen=True)
class SharedKeys:
    """The keys of an exchange: they prove that a side knows the code, and authenticate what it says."""

    secret: bytes = field(repr=False)
    """The key of SPAKE2."""
    transcript: bytes

    def proof(self, side: Side) -> bytes:
        """Return what *side* sends to prove that it has these keys."""
        return self._mac(f"confirm {side}", self.transcript)

    def is_proof(self, side: Side, proof: bytes) -> bool:
        """Whether *proof*, received from *side*, proves that."""
        return hmac.compare_digest(self.proof(side), proof)

    def mac(self, side: Side, body: bytes) -> bytes:
        """Return the authentication code of *body*, which *side* sends."""
        return self._mac(f"authenticate {side}", body)

    def is_mac(self, side: Side, body: bytes, mac: bytes) -> bool:
        """Whether *mac* shows that *body* comes from *side*."""
        return hmac.compare_digest(self.mac(side, body), mac)

    def _mac(self, purpose: str, body: bytes) -> bytes:
        key = HKDF(SHA256(), 32, salt=self.transcript, info=purpose.encode()).derive(self.secret)
        return hmac.digest(key, body, "sha256")


def transcript_of(binding: TlsBinding, joiner: PakeMessage, inviter: PakeMessage) -> bytes:
    """Return the digest of everything that both sides must agree on; each part is preceded by its length."""
    parts = (
        LABEL,
        hashlib.sha256(binding.certificate).digest(),
        binding.finished,
        joiner.nonce,
        inviter.nonce,
        joiner.element,
        inviter.element,
    )
    return hashlib.sha256(b"".join(len(part).to_bytes(2, "big") + part for part in parts)).digest()
