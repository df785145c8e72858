"""Passphrases of private keys in files."""

from __future__ import annotations

from pathlib import Path

from p2pfl.errors import CredentialsError

MAX_BYTES = 1024
"""Of a passphrase file; OpenSSL's own prompts take no longer passphrase."""


def read_passphrase(file: Path) -> bytes:
    """Return the first line of *file*.

    Raises:
        CredentialsError: it cannot be read, is empty, or is too long.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise CredentialsError(f"The passphrase file {file} cannot be read: {error.strerror}.") from error
    line = content.split(b"\n", 1)[0].rstrip(b"\r")
    if not line or len(content) > MAX_BYTES:
        raise CredentialsError(
            f"The passphrase file {file} must hold the passphrase in its first line, and nothing else."
        )
    return line
