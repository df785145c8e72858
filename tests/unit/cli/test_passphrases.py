from __future__ import annotations

import getpass
import sys
from pathlib import Path

import pytest

from p2pfl.cli.passphrases import new_passphrase, with_passphrase
from p2pfl.errors import CredentialsError, PassphraseNeededError


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A terminal, and what the user types there; without entries there is no terminal."""
    lines: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: bool(lines))

    def ask(_question: str) -> str:
        line = lines.pop(0)
        if line == "ctrl-d":
            raise EOFError
        return line

    monkeypatch.setattr(getpass, "getpass", ask)
    return lines


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pass"
    path.write_text("four random words\n", encoding="utf-8")
    return path


def needs(passphrase: bytes | None) -> bytes:
    if passphrase is None:
        raise PassphraseNeededError("needed")
    return passphrase


def test_a_key_without_a_passphrase_is_not_asked_for(typed: list[str]) -> None:
    typed.append("not read")
    assert with_passphrase(None, lambda given: given) is None
    assert typed == ["not read"]


def test_a_passphrase_comes_from_the_file_or_from_the_terminal(typed: list[str], file: Path) -> None:
    assert with_passphrase(file, needs) == b"four random words"
    typed.append("entered")
    assert with_passphrase(None, needs) == b"entered"


def test_without_a_terminal_the_option_is_named(typed: list[str]) -> None:
    assert typed == []
    with pytest.raises(CredentialsError, match=r"org\.key has a passphrase, .* with --ca-passphrase-file"):
        with_passphrase(None, needs, "org.key", "--ca-passphrase-file")
    with pytest.raises(CredentialsError, match="There is no terminal to enter a passphrase in"):
        new_passphrase(None)


def test_ctrl_d_is_told(typed: list[str]) -> None:
    typed.append("ctrl-d")
    with pytest.raises(CredentialsError, match="No passphrase was entered"):
        with_passphrase(None, needs)


def test_a_new_passphrase_is_entered_twice(typed: list[str], file: Path) -> None:
    typed.extend(["four random words"] * 2)
    assert new_passphrase(None) == b"four random words"
    typed.extend(["four random words", "four random wrods"])
    with pytest.raises(CredentialsError, match="The two passphrases differ"):
        new_passphrase(None)
    assert new_passphrase(file) == b"four random words"


def test_a_short_passphrase_is_refused(file: Path) -> None:
    file.write_text("1234567\n", encoding="utf-8")
    with pytest.raises(CredentialsError, match="fewer than 8 characters"):
        new_passphrase(file)
