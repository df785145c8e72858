"""Signatures with the key of a device's certificate, and their check: ECDSA on P-256 with SHA-256.

A signature comes with its public key, and the SHA-256 of that key is the node id. So a check needs nothing
else: no certificate, no connection, and the node need not exist any more.
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
"""Maximum cached public keys: those of two of the largest rosters."""

REMEMBERED_CHECKS = 1024
"""Maximum cached checks: an acceptance is seen in ACCEPTED, in a COMMIT and again in RECORDS."""

_ALGORITHM = ec.ECDSA(hashes.SHA256())


def signer_of(credentials: Credentials) -> Signer:
    """Return the signer of the device of *credentials*.

    Raises:
        CredentialsError: the key cannot be read any more.
    """
    return signer_with(read_key(credentials.key_path))


def signer_with(key: ec.EllipticCurvePrivateKey) -> Signer:
    """Return a signer with *key*."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Signer(public, lambda text: key.sign(text, _ALGORITHM), verify)


@lru_cache(REMEMBERED_CHECKS)
def verify(node: str, key: bytes, signature: bytes, text: bytes) -> bool:
    """Whether *key* is the key of *node*, and *signature* its signature of *text*. Never raises."""
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
    """Return *key*, decoded, if it is an ECDSA key on P-256 and *node*'s."""
    if id_of_spki(key) != node:
        return None
    try:
        public = load_der_public_key(key)
    except Exception:  # noqa: BLE001 - of many kinds; the key is useless for each of them
        return None
    is_ours = isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1)
    return public if is_ours else None  # type: ignore[return-value]
