from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from p2pfl.identity.encrypted_key import ROUNDS, encrypted_pem, is_encrypted
from p2pfl.identity.keys import generate_key


def der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("rounds", [1, 127, 128, 2048, 65_536])
def test_another_library_reads_what_is_written(rounds: int) -> None:
    key = generate_key()
    pem = encrypted_pem(der(key), "pässword".encode(), rounds)
    read = load_pem_private_key(pem, "pässword".encode())
    assert isinstance(read, ec.EllipticCurvePrivateKey)
    assert read.private_numbers() == key.private_numbers()


def test_another_passphrase_does_not_decrypt_it() -> None:
    pem = encrypted_pem(der(generate_key()), b"one passphrase", 1000)
    with pytest.raises(ValueError, match=r"."):
        load_pem_private_key(pem, b"another one")


def test_the_key_is_not_in_the_file_and_no_two_files_are_alike() -> None:
    key = der(generate_key())
    first, second = (encrypted_pem(key, b"one passphrase", 1000) for _ in range(2))
    assert first != second
    assert key[-32:] not in first


def test_the_rounds_are_as_many_as_owasp_asks_for() -> None:
    assert ROUNDS >= 600_000


def test_encrypted_keys_are_told_from_others() -> None:
    key = generate_key()
    traditional = key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"secret")
    )
    assert is_encrypted(traditional)
    assert is_encrypted(encrypted_pem(der(key), b"secret", 1000))
    assert not is_encrypted(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
