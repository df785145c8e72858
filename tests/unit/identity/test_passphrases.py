from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.errors import CredentialsError
from p2pfl.identity.passphrases import MAX_BYTES, read_passphrase


@pytest.mark.parametrize(
    "content", [b"four random words", b"four random words\n", b"four random words\r\nx\n"]
)
def test_a_passphrase_is_the_first_line_of_its_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pass").write_bytes(content)
    assert read_passphrase(tmp_path / "pass") == b"four random words"


@pytest.mark.parametrize("content", [b"", b"\nsecond line", b"x" * (MAX_BYTES + 1)])
def test_a_file_without_one_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pass").write_bytes(content)
    with pytest.raises(CredentialsError, match="must hold the passphrase in its first line"):
        read_passphrase(tmp_path / "pass")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="pass cannot be read: No such file"):
        read_passphrase(tmp_path / "pass")
