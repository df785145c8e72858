"""The canonical layout, checked against the safetensors library itself, and headers of strangers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from p2pfl.errors import BlobError
from p2pfl.schema import (
    DTYPE_BYTES,
    MAX_HEADER_BYTES,
    FrozenTensors,
    Layout,
    Schema,
    TensorSpec,
    canonical,
    file_bytes,
    first_difference,
    frozen_in,
    frozen_mark,
    frozen_to_take,
    header,
    layout_of,
    parse_header,
    schema_in,
)

SCHEMA = canonical(
    [
        TensorSpec("weight", "F32", (2, 3)),
        TensorSpec("bias", "F32", (3,)),
        TensorSpec("steps", "I64", ()),
        TensorSpec("mask", "U8", (5,)),
    ]
)

NUMPY = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "U8": np.uint8, "I16": np.int16}

specs = st.lists(
    st.builds(
        TensorSpec,
        st.text(st.sampled_from("abcdefgh.äβ_"), min_size=1, max_size=8),
        st.sampled_from(sorted(NUMPY)),
        st.lists(st.integers(0, 4), max_size=3).map(tuple),
    ),
    max_size=6,
    unique_by=lambda spec: spec.name,
)


def by_hand(
    fields: Any,
    pad: bool = True,
) -> bytes:
    """A header of *fields* as a stranger might write it."""
    text = json.dumps(fields, separators=(",", ":")).encode()
    if pad:
        text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def test_files_are_ordered_by_falling_element_size_and_then_by_name() -> None:
    assert [spec.name for spec in SCHEMA] == ["steps", "bias", "weight", "mask"]


@given(specs.filter(lambda made: made and not {"F64", "I64"} <= {spec.dtype for spec in made}))
def test_the_layout_is_the_one_the_safetensors_library_writes(made: Any) -> None:
    # The library also puts dtypes of one size into an order of its own, which the format does not ask for.
    schema = canonical(made)
    tensors = {spec.name: np.zeros(spec.shape, NUMPY[spec.dtype]) for spec in schema}
    written = save(tensors)
    assert written[: len(header(schema))] == header(schema)
    assert len(written) == file_bytes(schema)


@given(specs)
def test_a_header_is_read_back_as_the_schema_it_was_made_of(made: Any) -> None:
    schema = canonical(made)
    assert parse_header(header(schema)) == schema
    assert parse_header(header(schema) + b"tensors follow") == schema


def test_the_library_reads_a_file_of_a_schema() -> None:
    data = header(SCHEMA) + bytes(file_bytes(SCHEMA) - len(header(SCHEMA)))
    assert {name: tensor.shape for name, tensor in load(data).items()} == {
        spec.name: spec.shape for spec in SCHEMA
    }


def test_sizes_follow_from_shape_and_dtype() -> None:
    assert TensorSpec("a", "F16", (2, 3)).nbytes == 12
    assert TensorSpec("a", "I64", ()).nbytes == 8
    assert TensorSpec("a", "F32", (0, 5)).nbytes == 0


def test_every_dtype_has_a_size() -> None:
    assert set(DTYPE_BYTES.values()) == {1, 2, 4, 8}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (TensorSpec("w", "C64", (1,)), "dtype 'C64', which is none of"),
        (TensorSpec("w", "F32", (1,) * 9), "impossible shape"),
        (TensorSpec("w", "F32", (-1,)), r"'w' has the impossible shape \[-1\]"),
        (TensorSpec("__metadata__", "F32", (1,)), "used twice or reserved"),
    ],
)
def test_impossible_tensors_are_refused_by_name(spec: TensorSpec, says: str) -> None:
    with pytest.raises(BlobError, match=says):
        canonical([spec])


def test_a_name_used_twice_is_refused() -> None:
    with pytest.raises(BlobError, match="'w' is used twice"):
        canonical([TensorSpec("w", "F32", (1,)), TensorSpec("w", "F32", (2,))])


@pytest.mark.parametrize("length", range(len(header(SCHEMA))))
def test_a_header_cut_short_anywhere_is_refused(length: int) -> None:
    with pytest.raises(BlobError, match="no complete safetensors header"):
        parse_header(header(SCHEMA)[:length])


def test_a_header_that_announces_too_much_is_refused_unread() -> None:
    with pytest.raises(BlobError, match="no complete safetensors header"):
        parse_header((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}")


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "stranger",
    [
        by_hand({"w": ONE}, pad=False)[:-1] + b"]",
        by_hand([1, 2]),
        by_hand({"w": 1}),
        by_hand({"w": {"dtype": "F32"}}),
        by_hand({"w": ONE | {"shape": "22"}}),
        by_hand({"w": ONE | {"shape": [2.5]}}),
        by_hand({"w": ONE | {"shape": None}}),
        by_hand({"w": ONE | {"dtype": 7}}),
        by_hand({"w": ONE | {"dtype": []}}),
        by_hand({"w": ONE, "__metadata__": {"format": "pt"}}),
        b"\x08" + bytes(7) + b"\xff" * 8,
        b"\x08" + bytes(7) + b"[" * 8,
    ],
)
def test_what_is_no_header_of_ours_is_refused_as_one_sentence(stranger: bytes) -> None:
    with pytest.raises(BlobError, match="safetensors header"):
        parse_header(stranger)


@pytest.mark.parametrize(
    "fields",
    [
        {"w": ONE | {"data_offsets": [8, 16]}},
        {"b": ONE, "a": ONE | {"data_offsets": [8, 16]}},
        {"w": ONE | {"more": 1}},
    ],
)
def test_gaps_other_orders_and_extras_are_not_canonical(
    fields: dict[str, dict[str, int | list[int] | str]]
    | dict[str, dict[str, list[int] | str]]
    | dict[str, dict[str, list[int] | str]],
) -> None:
    with pytest.raises(BlobError, match="not in the canonical layout"):
        parse_header(by_hand(fields))


@given(st.binary(max_size=200))
def test_noise_is_refused_with_our_own_error_and_nothing_else(noise: Any) -> None:
    data = len(noise).to_bytes(8, "little") + noise
    with contextlib.suppress(BlobError):
        assert header(parse_header(data)) == data


def test_a_deeply_nested_header_is_refused() -> None:
    nested = b"[" * 100_000
    with pytest.raises(BlobError):
        parse_header(len(nested).to_bytes(8, "little") + nested)


# --- differences ------------------------------------------------------------------------------------------------


def changed(*specs: TensorSpec) -> tuple[TensorSpec, ...]:
    return canonical(specs)


def test_equal_schemas_do_not_differ() -> None:
    assert first_difference(SCHEMA, SCHEMA) is None


def test_the_first_tensor_that_differs_is_named_with_both_shapes() -> None:
    mine = changed(TensorSpec("weight", "F32", (2, 4)))
    theirs = changed(TensorSpec("weight", "F32", (2, 3)))
    assert first_difference(mine, theirs) == "weight F32[2,3] there is weight F32[2,4] here"


def test_a_tensor_only_one_side_has_is_named() -> None:
    one, two = (
        changed(TensorSpec("a", "F32", ())),
        changed(TensorSpec("a", "F32", ()), TensorSpec("b", "F32", ())),
    )
    assert first_difference(one, two) == "b F32[] is missing here"
    assert first_difference(two, one) == "b F32[] is missing there"


# --- what record 0 says of it -------------------------------------------------------------------------------


def test_a_layout_is_as_short_for_many_tensors_as_for_one_and_its_header_gives_the_schema_back() -> None:
    many = canonical(TensorSpec(f"layer.{number}", "F32", (2,)) for number in range(20_000))
    for schema in (SCHEMA, many):
        layout = layout_of(schema)
        assert schema_in(header(schema), layout) == schema
        assert layout.file_bytes == file_bytes(schema)
        assert len(msgspec.msgpack.encode(layout)) < 150


@pytest.mark.parametrize("change", [lambda start: start[:-1], lambda start: start.replace(b"mask", b"musk")])
def test_the_header_of_another_schema_is_refused(change: Callable[..., Any]) -> None:
    with pytest.raises(BlobError, match="the file does not begin with the header of this run's model"):
        schema_in(change(header(SCHEMA)), layout_of(SCHEMA))


def test_a_layout_with_a_length_that_its_header_does_not_give_is_refused() -> None:
    layout = layout_of(SCHEMA)
    with pytest.raises(BlobError, match="another length by its header"):
        schema_in(header(SCHEMA), msgspec.structs.replace(layout, file_bytes=layout.file_bytes + 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"header": "x"},
        {"header_bytes": 7},
        {"header_bytes": MAX_HEADER_BYTES + 9},
        {"file_bytes": 2**53 + 1},
        {"more": 1},
    ],
)
def test_a_layout_out_of_bounds_is_refused(changes: dict[str, int] | dict[str, str]) -> None:
    fields = msgspec.to_builtins(layout_of(SCHEMA)) | changes
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(fields, Layout)


HEAD = canonical([TensorSpec("head", "F32", (2,))])
BODY = canonical([TensorSpec("body", "F32", (3,))])


def with_frozen(digit: str, body: Schema = BODY) -> Schema:
    """Return a schema whose frozen tensors have the schema *body*, and a digest of *digit*."""
    return canonical([*HEAD, frozen_mark(FrozenTensors(digit * 32, layout_of(body)))])


def test_the_mark_of_frozen_tensors_is_part_of_the_layout_and_read_back() -> None:
    marked = with_frozen("ab")
    assert layout_of(HEAD) != layout_of(marked) != layout_of(with_frozen("cd"))
    assert parse_header(header(marked)) == marked
    assert frozen_in(HEAD) is None
    assert frozen_in(marked) == FrozenTensors("ab" * 32, layout_of(BODY))
    assert file_bytes(marked) - len(header(marked)) == 8


@pytest.mark.parametrize(
    "name", ["frozen:../../key", "frozen:", f"frozen:{'ab' * 32}", f"frozen:{'AB' * 32}:{'ab' * 32}"]
)
def test_a_tensor_with_a_name_that_has_no_digests_marks_nothing(name: str) -> None:
    assert frozen_in(canonical([TensorSpec(name, "U8", (0, 8, 16))])) is None
    assert frozen_in(canonical([TensorSpec(f"frozen:{'ab' * 32}:{'ab' * 32}", "U8", (0,))])) is None


def test_frozen_tensors_are_taken_only_where_nothing_but_their_values_differs() -> None:
    here, there = with_frozen("ab"), with_frozen("cd")
    assert frozen_to_take(here, there) == FrozenTensors("cd" * 32, layout_of(BODY))
    assert frozen_to_take(here, here) is None
    assert frozen_to_take(HEAD, there) is frozen_to_take(here, HEAD) is None
    longer = canonical([TensorSpec("body", "F32", (4,))])
    assert frozen_to_take(here, with_frozen("cd", longer)) is None
    assert frozen_to_take(canonical([TensorSpec("head", "F32", (9,)), *here[1:]]), there) is None


def test_other_frozen_tensors_are_a_difference_that_is_named_last() -> None:
    here, there = with_frozen("ab"), with_frozen("cd")
    assert first_difference(here, here) is None
    assert first_difference(here, there) == "the frozen parameters differ in their values, names or shapes"
    length = f"{file_bytes(BODY)} bytes"
    assert first_difference(HEAD, there) == f"the frozen parameters differ: {length} there, none here"
    other = canonical([TensorSpec("head", "F32", (3,)), *there[1:]])
    assert first_difference(here, other) == "head F32[3] there is head F32[2] here"
