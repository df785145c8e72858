from __future__ import annotations

from pathlib import Path

import pytest
import torch
from blake3 import blake3

from p2pfl.errors import BlobError
from p2pfl.learning import weights
from p2pfl.learning.simulation.blobs import (
    BlobShelf,
    MemoryReader,
    MemoryWriter,
    digest_of,
    load_bytes,
    model_bytes,
)
from p2pfl.learning.weights import bytes_of, schema_of
from p2pfl.schema import header
from tests.support.learning import Mixed


def test_a_model_in_memory_has_the_bytes_of_its_file(tmp_path: Path) -> None:
    module = Mixed(3)
    digest = weights.save(tmp_path / "file", module)
    blob = model_bytes(module)
    assert (blob, digest_of(blob)) == ((tmp_path / "file").read_bytes(), digest)


def test_a_loaded_module_is_the_one_that_was_written() -> None:
    module, other = Mixed(3, steps=9), Mixed(4)
    load_bytes(model_bytes(module), other, schema_of(module))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in module.state_dict().items())


def test_tensors_that_are_not_contiguous_are_loaded_too() -> None:
    module = torch.nn.Linear(3, 2)
    other = torch.nn.Linear(3, 2)
    other.weight.data = torch.empty(3, 2).t()
    load_bytes(model_bytes(module), other, schema_of(module))
    assert torch.equal(module.weight, other.weight)


def test_a_writer_makes_the_same_bytes_piece_by_piece() -> None:
    module = Mixed(3)
    schema = schema_of(module)
    with MemoryWriter(schema) as writer:
        for spec in schema:
            writer.add(module.state_dict()[spec.name])
        assert writer.finish(durable=False) == blake3(model_bytes(module)).hexdigest()
    assert writer.blob == model_bytes(module)


def test_bytes_of_another_length_are_refused() -> None:
    with pytest.raises(BlobError, match=r"has 9\d* bytes, not"):
        MemoryReader(model_bytes(torch.nn.Linear(2, 1)) + b"x" * 800)


@pytest.mark.parametrize("limit", [0, 10**9], ids=["spilled", "in memory"])
class TestShelf:
    def test_what_was_put_is_read_anywhere(self, limit: int) -> None:
        shelf = BlobShelf(limit)
        modules = [Mixed(number) for number in range(3)]
        for module in modules:
            shelf.put(model_bytes(module), digest_of(model_bytes(module)))
        readers = [shelf.open(digest_of(model_bytes(module))) for module in modules]
        start = len(header(schema_of(modules[0])))
        for module, reader in zip(modules, readers, strict=True):
            assert reader.schema == schema_of(module)
            blob, first, second = model_bytes(module), bytearray(8), bytearray(4)
            reader.fill_from(start + 4, memoryview(first))
            reader.fill(memoryview(second))
            assert bytes(first + second) == blob[start + 4 : start + 16]
            assert shelf.get(digest_of(blob)) == blob
        shelf.close()

    def test_what_was_dropped_is_gone_and_its_place_is_used_again(self, limit: int) -> None:
        shelf = BlobShelf(limit)
        for number in range(100):
            shelf.put(bytes([number]) * 50, str(number))
            if number:
                shelf.drop(str(number - 1))
        with pytest.raises(BlobError, match="no blob 98"):
            shelf.get("98")
        assert shelf.get("99") == bytes([99]) * 50
        assert shelf.spilled_bytes <= 100
        shelf.clear()
        with pytest.raises(BlobError, match="no blob 99"):
            shelf.open("99")
        shelf.close()

    def test_a_reader_says_that_a_blob_is_too_short(self, limit: int) -> None:
        shelf = BlobShelf(limit)
        blob = model_bytes(torch.nn.Linear(2, 1))
        shelf.put(blob, "one")
        with pytest.raises(BlobError, match="ends too early"):
            shelf.open("one").fill_from(len(blob) - 1, memoryview(bytearray(2)))
        shelf.close()


def test_a_reader_begins_at_the_first_element() -> None:
    module = torch.nn.Linear(2, 1)
    values = torch.empty(1)
    MemoryReader(model_bytes(module)).fill(bytes_of(values))
    assert values == module.bias
