from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from p2pfl.store import hashing
from p2pfl.store.hashing import digest_of, pieces_of

PIECE = 8


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_a_file_of_any_length_is_hashed_whole_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(hashing, "PIECE_BYTES", PIECE)
    content = bytes(range(length))
    path = tmp_path / "file"
    path.write_bytes(content)
    assert digest_of(path) == blake3(content).hexdigest()
    with path.open("rb", buffering=0) as file:
        pieces = [bytes(piece) for piece in pieces_of(file)]
    assert b"".join(pieces) == content
    assert all(0 < len(piece) <= PIECE for piece in pieces)


def test_only_the_rest_of_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcdef")
    with path.open("rb", buffering=0) as file:
        file.seek(4)
        assert [bytes(piece) for piece in pieces_of(file)] == [b"ef"]
