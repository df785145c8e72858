"""Signatures with the key of a device's certificate, and their check: ECDSA on P-256 with SHA-256.

A signature comes with the public key it was made with, and the key's SHA-256 is the node id. So nothing else
is needed to check one: no certificate, no connection, not even that the node still exists.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from p2pfl.identity.credentials import Credentials
from p2pfl.identity.keys import id_of_spki, read_key
from p2pfl.proofs import Signer

REMEMBERED_KEYS = 512
"""Public keys kept ready: those of two of the largest rosters."""

REMEMBERED_CHECKS = 1024
"""Checks remembered: an acceptance is seen in ACCEPTED, in a COMMIT and again in RECORDS."""

_ALGORITHM = ec.ECDSA(hashes.SHA256())


def signer_of(credentials: Credentials) -> Signer:
    """Return what signs as the device of *credentials*.

    Raises:
        CredentialsError: the key cannot be read any more.
    """
    return signer_with(read_key(credentials.key_path))


def signer_with(key: ec.EllipticCurvePrivateKey) -> Signer:
    """Return what signs with *key*."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Signer(public, lambda text: key.sign(text, _ALGORITHM), verify)


@lru_cache(REMEMBERED_CHECKS)
def verify(node: str, key: bytes, signature: bytes, text: bytes) -> bool:
    """Whether *key* is that of *node*, and *signature* is the key's of *text*. Never raises."""
    public = _public_key(node, key)
    if public is None:
        return False
    try:
        public.verify(signature, text, _ALGORITHM)
    except InvalidSignature:
        return False
    return True


@lru_cache(REMEMBERED_KEYS)
def _public_key(node: str, key: bytes) -> ec.EllipticCurvePublicKey | None:
    """Return *key*, ready for use, if it is of the kind used here and *node*'s."""
    if id_of_spki(key) != node:
        return None
    try:
        public = load_der_public_key(key)
    except Exception:  # noqa: BLE001 - cryptography names many reasons; the key is useless for each of them
        return None
    is_ours = isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1)
    return public if is_ours else None  # type: ignore[return-value]
