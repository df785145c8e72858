"""Whether the bytes of a blob are a model that may be used: the header, the length, every number finite.

The node checks what peers send, so that a broken update is refused by name before the worker or the consensus
sees it. The file is read in small pieces into one buffer and not mapped: mapped pages would count as the
node's memory. numpy is imported with the first check (20 MB and 0.1 s that an idle node does not spend).
"""

from __future__ import annotations

from collections.abc import Callable
from io import FileIO
from pathlib import Path

from p2pfl.errors import BlobError
from p2pfl.schema import Schema, TensorSpec, file_bytes, header

CHUNK_BYTES = 128 * 1024
"""Read at a time: it stays in a processor's cache, and is a multiple of every element size."""

_BF16_EXPONENT = 0x7F80
"""All exponent bits of a bfloat16 set: an infinity or not a number."""


def check_blob(path: Path, schema: Schema) -> None:
    """Check the file at *path* against *schema*; its digest was checked while it was pulled.

    Raises:
        BlobError: another header or length, or an element that is not finite (names the first such tensor).
        FileNotFoundError: it is not here.
    """
    start = header(schema)
    with path.open("rb", buffering=0) as file:
        size = path.stat().st_size
        if size != file_bytes(schema):
            raise BlobError(
                f"blob {path.name} has {size} bytes, but a file of this run's model has {file_bytes(schema)}"
            )
        if file.read(len(start)) != start:
            raise BlobError(f"blob {path.name} does not begin with the header of this run's model")
        buffer = memoryview(bytearray(CHUNK_BYTES))
        for spec in schema:
            _check_tensor(file, spec, buffer, path.name)


def _check_tensor(file: FileIO, spec: TensorSpec, buffer: memoryview, name: str) -> None:
    """Read the tensor *spec* from where *file* stands, and raise unless all of it is finite."""
    are_finite = _finiteness(spec.dtype)
    if are_finite is None:
        file.seek(spec.nbytes, 1)
        return
    left = spec.nbytes
    while left:
        piece = buffer[: min(left, CHUNK_BYTES)]
        _read_whole(file, piece, name)
        if not are_finite(piece):
            raise BlobError(
                f"tensor {spec} of blob {name} holds a number that is not finite (NaN or infinity)"
            )
        left -= len(piece)


def _finiteness(dtype: str) -> Callable[[memoryview], bool] | None:
    """Return the test whether all numbers in some bytes of *dtype* are finite; None where they always are."""
    import numpy as np

    if dtype == "BF16":
        # numpy has no such type: look at the bits.
        def bits(piece: memoryview) -> bool:
            exponents = np.frombuffer(piece, "<u2") & _BF16_EXPONENT
            return bool((exponents != _BF16_EXPONENT).all())

        return bits
    kind = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}.get(dtype)
    if kind is None:
        return None
    return lambda piece: bool(np.isfinite(np.frombuffer(piece, kind)).all())


def _read_whole(file: FileIO, piece: memoryview, name: str) -> None:
    """Fill *piece* from *file*; raise where it ends early: somebody cut it after its length was seen."""
    done = 0
    while done < len(piece):
        count = file.readinto(piece[done:])
        if not count:
            raise BlobError(f"blob {name} became shorter while it was read")
        done += count
