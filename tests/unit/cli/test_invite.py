from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.cli import load
from p2pfl.errors import UserError
from p2pfl.identity.authority import create_authority


def invite(*words: str) -> None:
    load("invite").main(list(words), standalone_mode=False)


@pytest.fixture
def ca(tmp_path: Path) -> str:
    create_authority(tmp_path, "lab")
    return f"--certs={tmp_path}"


def test_without_a_terminal_nobody_is_let_in_unasked(ca: str) -> None:
    with pytest.raises(UserError, match="standard input is no terminal: run this in one, or give --yes"):
        invite(ca)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--ttl=15", "--ttl is '15'"),
        ("--count=0", "--count is 0, and 1 to 256"),
        ("--listen=here:there", "is not an address"),
        ("--peers=:", "is not an address"),
    ],
)
def test_an_option_of_no_use_is_named(ca: str, word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        invite(ca, "--yes", "--listen=127.0.0.1:0", word)


def test_only_the_holder_of_the_key_invites(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no CA in .*ca\.key"):
        invite(f"--certs={tmp_path}", "--yes")
