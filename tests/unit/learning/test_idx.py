from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from p2pfl.errors import TaskError
from p2pfl.learning import idx
from tests.support.images import idx as make_idx

ELEMENTS = bytes(range(24))
WHOLE = make_idx(ELEMENTS, 2, 3, 4)
SHAPE = (2, 3, 4)


def read(folder: Path, content: bytes, name: str = "file", shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    (folder / name).write_bytes(content)
    return idx.read(folder / name, shape)


@pytest.mark.parametrize(
    ("name", "content"), [("f", WHOLE), ("f.gz", gzip.compress(WHOLE))], ids=["plain", "gz"]
)
def test_plain_and_compressed_files_give_the_same_tensor(tmp_path: Path, name: str, content: bytes) -> None:
    tensor = read(tmp_path, content, name)
    assert tensor.dtype == torch.uint8
    assert tensor.tolist() == torch.arange(24).reshape(2, 3, 4).tolist()


def test_a_file_longer_than_a_chunk_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "CHUNK_BYTES", 5)
    assert read(tmp_path, gzip.compress(WHOLE), "f.gz").flatten().tolist() == list(ELEMENTS)


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(TaskError, match=r"ends|no IDX file|begins with"):
        read(tmp_path, WHOLE[:length])


@pytest.mark.parametrize("length", [0, 5, 15, 40])
def test_a_compressed_file_cut_anywhere_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(TaskError, match=r"f\.gz"):
        read(tmp_path, gzip.compress(WHOLE)[:length], "f.gz")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x1f\x8b\x08\x00" + WHOLE, "no IDX file: it begins with 1f 8b 08 00"),
        (b"", "it begins with nothing"),
        (b"\0\0\x0d" + WHOLE[3:], "of the IDX type 0x0d where unsigned bytes"),
        (make_idx(ELEMENTS, 24), "1 dimensions where 3 are expected"),
        (make_idx(ELEMENTS, 2, 4, 3), "2 x 4 x 3 elements where 2 x 3 x 4 are expected"),
        (WHOLE[:-1], "ends after 23 of 24"),
        (WHOLE + b"\0", "more bytes than its 24"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        read(tmp_path, content)


def test_a_header_of_impossible_size_allocates_nothing(tmp_path: Path) -> None:
    huge = make_idx(b"", 2**32 - 1, 2**32 - 1, 2**32 - 1)
    with pytest.raises(TaskError, match="4294967295 x 4294967295"):
        read(tmp_path, huge)


def test_no_more_is_decompressed_than_the_header_may_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0
    original = gzip.GzipFile.read

    def counted(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        nonlocal taken
        content = original(self, size)
        taken += len(content)
        return content

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    bomb = gzip.compress(WHOLE + bytes(50_000_000))
    with pytest.raises(TaskError, match="more bytes than its 24"):
        read(tmp_path, bomb, "f.gz")
    assert taken == len(WHOLE) + 1


@pytest.mark.parametrize("position", [-1, -6])
def test_a_wrong_checksum_or_length_is_found(tmp_path: Path, position: int) -> None:
    content = bytearray(gzip.compress(WHOLE))
    content[position] ^= 1
    with pytest.raises(TaskError, match="cannot be read"):
        read(tmp_path, bytes(content), "f.gz")


@pytest.mark.parametrize("content", [WHOLE, b"\x1f\x8b\x08" + bytes(40)])
def test_what_is_not_gzip_is_not_read_as_gzip(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(TaskError, match=r"f\.gz"):
        read(tmp_path, content, "f.gz")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"nothing\.gz cannot be read"):
        idx.read(tmp_path / "nothing.gz", SHAPE)
