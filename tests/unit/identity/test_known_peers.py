from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.errors import CredentialsError
from p2pfl.identity.known_peers import (
    KNOWN_PEERS_FILE,
    MAX_BYTES,
    MAX_KNOWN_PEERS,
    KnownPeer,
    read_known_peers,
    save_known_peers,
)


def peer(letter: str = "a", at: float = 1.0, *addresses: str) -> KnownPeer:
    return KnownPeer(letter * 52, f"name {letter}", addresses or ("192.0.2.7:9000",), at)


def test_saved_peers_are_read_back_by_node_id(tmp_path: Path) -> None:
    saved = [peer("a"), peer("b", 2.0, "[2001:db8::1]:9000", "pi.local:9001")]
    save_known_peers(tmp_path, saved)
    assert read_known_peers(tmp_path) == {one.node: one for one in saved}


def test_the_latest_peers_are_kept(tmp_path: Path) -> None:
    digits = "abcdefghijklmnopqrstuvwxyz234567"
    many = [
        KnownPeer((digits[number // 32] + digits[number % 32]).ljust(52, "a"), "n", (), float(number))
        for number in range(1024)
    ]
    save_known_peers(tmp_path, [peer("z", at=-1.0), *many])
    kept = read_known_peers(tmp_path)
    assert len(kept) == MAX_KNOWN_PEERS
    assert "z" * 52 not in kept


@pytest.mark.parametrize("content", [b"", b"[{}]", b'[{"node": "short"}]', b" " * (MAX_BYTES + 1)])
def test_a_damaged_file_holds_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KNOWN_PEERS_FILE).write_bytes(content)
    assert read_known_peers(tmp_path) == {}


def test_no_file_holds_nobody(tmp_path: Path) -> None:
    assert read_known_peers(tmp_path) == {}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=KNOWN_PEERS_FILE):
        save_known_peers(tmp_path / "absent", [peer()])
