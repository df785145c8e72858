"""Fixed keys of the devices in tests, with node ids that are readable in a failure."""

from __future__ import annotations

import hashlib
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from p2pfl.identity.keys import node_id_of
from p2pfl.identity.signatures import signer_with
from p2pfl.proofs import Signer

SECRETS = {"ada": 26614, "ben": 68541, "cleo": 4512457, "dan": 21209, "eve": 20372}
"""Private keys whose node ids begin with these names, found by search. Not secret: only for tests."""

DETERMINISTIC = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
"""Deterministic signatures (RFC 6979), so that tests can compare signed messages."""


@cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    """The private key of device *name*."""
    secret = SECRETS.get(name) or int.from_bytes(hashlib.sha256(name.encode()).digest()) >> 8
    return ec.derive_private_key(secret, ec.SECP256R1())


@cache
def id_of(name: str) -> str:
    """The node id of device *name*."""
    return node_id_of(key(name).public_key())


@cache
def signer(name: str) -> Signer:
    """The signer of device *name*."""
    made = signer_with(key(name))
    return Signer(made.key, lambda text: key(name).sign(text, DETERMINISTIC), made.verify)
