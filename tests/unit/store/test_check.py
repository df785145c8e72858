from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from p2pfl.errors import BlobError
from p2pfl.schema import Schema, TensorSpec, canonical, header, layout_of
from p2pfl.store import check
from p2pfl.store.check import BlobValidator, check_blob

SCHEMA = canonical(
    [
        TensorSpec("a.weight", "F32", (7, 3)),
        TensorSpec("b.double", "F64", (5,)),
        TensorSpec("c.half", "F16", (9,)),
        TensorSpec("d.brain", "BF16", (9,)),
        TensorSpec("e.count", "I64", ()),
        TensorSpec("f.flags", "BOOL", (3,)),
        TensorSpec("g.none", "F32", (0, 4)),
    ]
)

ONES = {"F32": "<f4", "F64": "<f8", "F16": "<f2", "I64": "<i8", "BOOL": "<u1"}

BF16_ONE, BF16_INFINITY, BF16_NAN, BF16_LARGEST = 0x3F80, 0xFF80, 0x7FC0, 0x7F7F


def write(path: Path, schema: Schema, **special: tuple[int, float]) -> Path:
    """Write a file of ones; *special* puts a value at an index of the tensor that begins with the keyword."""
    content = header(schema)
    for spec in schema:
        if spec.dtype == "BF16":
            numbers = np.full(spec.elements, BF16_ONE, "<u2")
        else:
            numbers = np.ones(spec.elements, ONES[spec.dtype])
        if spec.name[0] in special:
            index, value = special[spec.name[0]]
            numbers[index] = value
        content += numbers.tobytes()
    path.write_bytes(content)
    return path


def test_a_finite_file_of_the_schema_passes(tmp_path: Path) -> None:
    path = write(tmp_path / "blob", SCHEMA, a=(3, 3e38), c=(1, 65504), d=(2, BF16_LARGEST), e=(0, -1))
    check_blob(path, layout_of(SCHEMA))


@pytest.mark.parametrize(
    ("special", "tensor"),
    [
        ({"a": (20, np.nan)}, r"a\.weight F32\[7,3\]"),
        ({"a": (0, np.inf)}, r"a\.weight F32\[7,3\]"),
        ({"b": (4, -np.inf)}, r"b\.double F64\[5\]"),
        ({"c": (8, np.nan)}, r"c\.half F16\[9\]"),
        ({"d": (8, BF16_NAN)}, r"d\.brain BF16\[9\]"),
        ({"d": (0, BF16_INFINITY)}, r"d\.brain BF16\[9\]"),
        ({"a": (0, np.nan), "b": (0, np.nan)}, r"b\.double F64\[5\]"),
    ],
)
def test_the_first_tensor_in_the_file_that_is_not_finite_is_named(
    tmp_path: Path, special: dict[str, tuple[int, float]], tensor: str
) -> None:
    path = write(tmp_path / "blob", SCHEMA, **special)
    with pytest.raises(
        BlobError, match=rf"blob blob holds a number that is not finite .*, in tensor {tensor}$"
    ):
        check_blob(path, layout_of(SCHEMA))


@pytest.mark.parametrize(
    "special",
    [
        {"a": (20, np.nan)},
        {"a": (0, -np.inf)},
        {"b": (4, -np.inf)},
        {"c": (8, np.nan)},
        {"d": (8, BF16_NAN)},
        {"a": (3, np.inf), "b": (0, np.nan), "c": (0, np.inf), "d": (4, BF16_INFINITY)},
    ],
)
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_a_number_may_be_what_it_is_in_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, special: dict[str, tuple[int, float]], chunk: int
) -> None:
    monkeypatch.setattr(check, "CHUNK_BYTES", chunk)
    parent = write(tmp_path / "parent", SCHEMA, **special)
    update = write(tmp_path / "update", SCHEMA, e=(0, 7), **special)
    check_blob(update, layout_of(SCHEMA), parent)
    finite = write(tmp_path / "finite", SCHEMA)
    check_blob(finite, layout_of(SCHEMA), parent)
    with pytest.raises(BlobError, match="not finite"):
        check_blob(update, layout_of(SCHEMA), finite)


@pytest.mark.parametrize("theirs", [np.inf, np.nan, 1.0])
def test_another_number_than_the_parents_must_be_finite(tmp_path: Path, theirs: float) -> None:
    parent = write(tmp_path / "parent", SCHEMA, a=(4, theirs), b=(2, np.nan))
    update = write(tmp_path / "update", SCHEMA, a=(4, -np.inf), b=(2, np.nan))
    with pytest.raises(BlobError, match=r"not finite .*, in tensor a\.weight"):
        check_blob(update, layout_of(SCHEMA), parent)


def test_without_the_parent_it_stays_open_whether_a_number_may_be_what_it_is(tmp_path: Path) -> None:
    update = write(tmp_path / "update", SCHEMA, a=(4, np.inf))
    with pytest.raises(FileNotFoundError, match="blob update holds numbers that are not finite"):
        check_blob(update, layout_of(SCHEMA), tmp_path / "absent")
    check_blob(update, layout_of(SCHEMA), "any")


@pytest.mark.parametrize("index", [0, 15, 16, 17, 99])
def test_tensors_longer_than_a_chunk_are_checked_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    monkeypatch.setattr(check, "CHUNK_BYTES", 64)
    schema = canonical([TensorSpec("a", "F32", (100,)), TensorSpec("z", "F32", (100,))])
    check_blob(write(tmp_path / "blob", schema), layout_of(schema))
    with pytest.raises(BlobError, match="in tensor z "):
        check_blob(write(tmp_path / "blob", schema, z=(index, np.nan)), layout_of(schema))


@pytest.mark.parametrize("change", [b"", b"x"])
def test_another_length_is_refused(tmp_path: Path, change: bytes) -> None:
    path = write(tmp_path / "blob", SCHEMA)
    content = path.read_bytes()
    path.write_bytes(content + change if change else content[:-1])
    with pytest.raises(
        BlobError, match=f"has {len(content) + len(change) * 2 - 1} bytes, but .* has {len(content)}"
    ):
        check_blob(path, layout_of(SCHEMA))


def test_another_header_of_the_same_length_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "blob", SCHEMA)
    path.write_bytes(path.read_bytes().replace(b"a.weight", b"a.weighs"))
    with pytest.raises(BlobError, match="does not begin with the header"):
        check_blob(path, layout_of(SCHEMA))


def test_a_file_cut_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "blob", SCHEMA)
    monkeypatch.setattr(check, "CHUNK_BYTES", 64)
    monkeypatch.setattr(BlobValidator, "take", lambda *_: os.truncate(path, 64))
    with pytest.raises(BlobError, match="blob blob became shorter while it was read"):
        check_blob(path, layout_of(SCHEMA))


# --- in pieces ----------------------------------------------------------------------------------------------


def found(content: bytes, size: int) -> str:
    """Return what a checker says of *content* that comes in pieces of *size* bytes."""
    checker = BlobValidator(layout_of(SCHEMA))
    for start in range(0, len(content), size):
        assert not checker.has_seen_all
        checker.take(start, memoryview(content)[start : start + size])
    assert checker.has_seen_all
    try:
        checker.conclude("x")
    except BlobError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8, 64, 100, 10_000])
@pytest.mark.parametrize(
    ("special", "tensor"),
    [
        ({}, ""),
        ({"b": (4, np.nan)}, "b.double F64[5]"),
        ({"a": (0, np.inf)}, "a.weight F32[7,3]"),
        ({"a": (20, np.nan), "c": (0, np.nan)}, "a.weight F32[7,3]"),
        ({"c": (8, -np.inf)}, "c.half F16[9]"),
        ({"d": (8, BF16_NAN)}, "d.brain BF16[9]"),
    ],
)
def test_pieces_of_any_size_are_judged_alike(
    tmp_path: Path, special: dict[str, tuple[int, float]], tensor: str, size: int
) -> None:
    said = found(write(tmp_path / "blob", SCHEMA, **special).read_bytes(), size)
    assert said.endswith(f", in tensor {tensor}") if tensor else not said


@pytest.mark.parametrize("size", [1, 9, 64, 10_000])
def test_another_header_shows_in_any_piece(tmp_path: Path, size: int) -> None:
    content = write(tmp_path / "blob", SCHEMA).read_bytes().replace(b"g.none", b"g.nine")
    assert found(content, size) == "blob x does not begin with the header of this run's model"


def test_a_second_attempt_is_judged_by_itself(tmp_path: Path) -> None:
    bad = write(tmp_path / "bad", SCHEMA, a=(0, np.nan)).read_bytes()
    good = write(tmp_path / "good", SCHEMA).read_bytes()
    checker = BlobValidator(layout_of(SCHEMA))
    checker.take(0, bad[:-1])
    assert checker.has_fault
    checker.take(0, good)
    assert checker.has_seen_all
    checker.conclude("x")


def test_a_gap_leaves_the_check_open(tmp_path: Path) -> None:
    content = write(tmp_path / "blob", SCHEMA).read_bytes()
    checker = BlobValidator(layout_of(SCHEMA))
    checker.take(0, content[:50])
    checker.take(60, content[60:])
    assert not checker.has_seen_all


def test_a_missing_file_is_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check_blob(tmp_path / "none", layout_of(SCHEMA))


def test_importing_the_store_loads_no_numpy() -> None:
    script = (
        "import sys, p2pfl.store.check, p2pfl.store.journal, p2pfl.store.directory, p2pfl.cli.history\n"
        "print('numpy' in sys.modules, 'torch' in sys.modules, 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False False False\n"
