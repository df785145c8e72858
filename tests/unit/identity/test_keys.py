from __future__ import annotations

import base64
import hashlib
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from p2pfl.errors import CredentialsError
from p2pfl.identity.credentials import read_certificate
from p2pfl.identity.keys import generate_key, node_id_of, read_key, short, write_file, write_key
from tests.support.federation import make_federation

PUBLIC_KEY = b"""-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
"""
"""The generator of P-256: a point that anybody can look up."""

posix = pytest.mark.skipif(os.name != "posix", reason="needs permission bits")


def test_the_node_id_of_a_known_key_never_changes() -> None:
    key = load_pem_public_key(PUBLIC_KEY)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert node_id_of(key) == "ltjff6ym5cjsinx27dgncbajqg4j5zfnnop6tyvcw7trvlfsptjq"


def test_a_node_id_is_the_base32_of_sha256_of_the_spki() -> None:
    public = generate_key().public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    node_id = node_id_of(public)
    assert len(node_id) == 52
    assert base64.b32decode(node_id.upper() + "====") == hashlib.sha256(spki).digest()


def test_a_certificate_has_the_node_id_of_its_key(tmp_path: Path) -> None:
    ant = make_federation(tmp_path, "ant")["ant"]
    certificate = read_certificate(ant.certificate_path).public_bytes(Encoding.DER)
    assert node_id_of(certificate) == node_id_of(read_key(ant.key_path).public_key()) == ant.node_id


def test_people_see_seven_characters() -> None:
    assert short("abcdefghijklm") == "abcdefg"


def test_a_key_reads_back(tmp_path: Path) -> None:
    key = generate_key()
    write_key(tmp_path / "a.key", key)
    assert read_key(tmp_path / "a.key").private_numbers() == key.private_numbers()


@posix
def test_a_key_is_written_for_its_owner_only_also_over_an_open_file(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_text("old")
    path.chmod(0o666)
    write_key(path, generate_key())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_can_touch_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.key"
    write_key(path, generate_key())
    path.chmod(mode)
    with pytest.raises(CredentialsError, match=f"chmod 600 {path}"):
        read_key(path)


def encoded(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, password: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no private key"),
        (b"not a key", "holds no private key"),
        (encoded(generate_key(), b"secret"), "has a passphrase"),
        (encoded(ed25519.Ed25519PrivateKey.generate()), "not ECDSA on P-256"),
        (encoded(ec.generate_private_key(ec.SECP384R1())), "not ECDSA on P-256"),
    ],
)
def test_a_file_that_holds_no_key_of_ours_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    write_file(tmp_path / "a.key", content, mode=0o600)
    with pytest.raises(CredentialsError, match=complaint):
        read_key(tmp_path / "a.key")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=r"a\.key cannot be read: No such file"):
        read_key(tmp_path / "a.key")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.crt"
    write_file(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CredentialsError, match=r"a\.crt cannot be written: No space left on device"):
        write_file(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.crt"]
    assert path.read_bytes() == b"old"


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="cannot be written"):
        write_file(tmp_path / "nowhere" / "a.crt", b"")
