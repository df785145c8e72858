"""Private keys that a passphrase encrypts: PKCS #8 in PEM form (RFC 5958, RFC 8018), as OpenSSL reads it.

`cryptography` reads this form, but writes it with 2,048 rounds of PBKDF2, which lets a graphics card try a
million passphrases a second. So it is written here, with as many rounds as OWASP asks for.
"""

from __future__ import annotations

import base64
import os
import textwrap

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7

ROUNDS = 600_000
"""Of PBKDF2 with SHA-256 (OWASP Password Storage Cheat Sheet): a third of a second on a laptop, two on a
Raspberry Pi."""

_INTEGER, _OCTETS, _NULL, _SEQUENCE = 0x02, 0x04, 0x05, 0x30
"""Tags of DER."""

_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")
_HMAC_SHA256 = bytes.fromhex("06082a864886f70d0209")
_AES_256_CBC = bytes.fromhex("060960864801650304012a")
"""Object identifiers in DER."""


def encrypted_pem(key: bytes, passphrase: bytes, rounds: int = ROUNDS) -> bytes:
    """Return *key*, a PrivateKeyInfo in DER, encrypted with *passphrase*, in PEM form."""
    salt, start = os.urandom(16), os.urandom(16)
    secret = PBKDF2HMAC(hashes.SHA256(), 32, salt, rounds).derive(passphrase)
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES256(secret), modes.CBC(start)).encryptor()
    encrypted = encryptor.update(padder.update(key) + padder.finalize()) + encryptor.finalize()
    count = _der(_INTEGER, rounds.to_bytes(rounds.bit_length() // 8 + 1))
    derivation = _sequence(_der(_OCTETS, salt), count, _sequence(_HMAC_SHA256, _der(_NULL, b"")))
    parameters = _sequence(_sequence(_PBKDF2, derivation), _sequence(_AES_256_CBC, _der(_OCTETS, start)))
    return _pem(_sequence(_sequence(_PBES2, parameters), _der(_OCTETS, encrypted)))


def is_encrypted(pem: bytes) -> bool:
    """Whether a passphrase is needed to read the key in *pem*, in any of the usual forms."""
    return b"BEGIN ENCRYPTED PRIVATE KEY" in pem or b"Proc-Type: 4,ENCRYPTED" in pem


def _sequence(*parts: bytes) -> bytes:
    return _der(_SEQUENCE, b"".join(parts))


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    digits = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(digits)]) + digits + content


def _pem(der: bytes) -> bytes:
    lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
    return "\n".join(
        ["-----BEGIN ENCRYPTED PRIVATE KEY-----", *lines, "-----END ENCRYPTED PRIVATE KEY-----", ""]
    ).encode()
