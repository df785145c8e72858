"""A signature is checked with nothing but the key that comes with it, whose digest is the node id."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from p2pfl.identity.authority import create_authority, issue
from p2pfl.identity.credentials import load_credentials
from p2pfl.identity.keys import generate_key, id_of_spki, node_id_of
from p2pfl.identity.signatures import signer_of, signer_with, verify

TEXT = b"some text"


def test_what_a_device_signs_is_its_own(tmp_path: Path) -> None:
    create_authority(tmp_path)
    issue(tmp_path, "ada")
    credentials = load_credentials(tmp_path, "ada")
    signer = signer_of(credentials)
    signature = signer.sign(TEXT)
    assert verify(credentials.node_id, signer.key, signature, TEXT)
    assert signer.verify is verify
    assert len(signer.key) == 91
    assert len(signature) <= 72


def test_another_text_key_or_node_is_refused() -> None:
    mine, other = generate_key(), generate_key()
    signer, stranger = signer_with(mine), signer_with(other)
    node, signature = node_id_of(mine.public_key()), signer.sign(TEXT)
    assert verify(node, signer.key, signature, TEXT)
    assert not verify(node, signer.key, signature, TEXT + b"!")
    assert not verify(node, signer.key, stranger.sign(TEXT), TEXT)
    assert not verify(node, stranger.key, stranger.sign(TEXT), TEXT)
    assert not verify(node_id_of(other.public_key()), signer.key, signature, TEXT)


@pytest.mark.parametrize("signature", [b"", b"x", b"\x30\x06\x02\x01\x00\x02\x01\x00", b"\xff" * 128])
def test_bytes_that_are_no_signature_are_refused(signature: bytes) -> None:
    key = generate_key()
    assert not verify(node_id_of(key.public_key()), signer_with(key).key, signature, TEXT)


def test_a_key_of_another_kind_is_refused() -> None:
    edwards = ed25519.Ed25519PrivateKey.generate()
    larger = ec.generate_private_key(ec.SECP384R1())
    for key in (edwards, larger):
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert not verify(id_of_spki(spki), spki, b"x" * 70, TEXT)
    assert not verify(id_of_spki(b"no key"), b"no key", b"x" * 70, TEXT)
