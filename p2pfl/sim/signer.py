"""Signatures of simulated devices: within the simulation as unforgeable as real ones, and far faster.

A node's secret is derived from its id. A device is handed only what signs with its own; a forged signature
is one that the check, which knows all secrets, does not come to as well.
"""

from __future__ import annotations

from functools import partial

from blake3 import blake3

from p2pfl.proofs import Signer


def signer_of(node: str) -> Signer:
    """Return what signs as *node*."""
    return Signer(node.encode(), partial(_sign, _secret(node)), verify)


def verify(node: str, key: bytes, signature: bytes, text: bytes) -> bool:
    """Whether *node* has signed *text*."""
    return key == node.encode() and signature == _sign(_secret(node), text)


def _secret(node: str) -> bytes:
    return blake3(node.encode(), derive_key_context="p2pfl simulated key").digest()


def _sign(secret: bytes, text: bytes) -> bytes:
    return blake3(text, key=secret).digest()
