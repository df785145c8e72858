"""Whether the bytes of a blob are a model that may be used: the header, the length, every number finite.

The node checks what peers send, so that a broken update is refused by name before the worker or the
consensus sees it. A `Checker` looks at bytes while they arrive and are in the processor's cache anyway;
`check_blob` has it look at a file that is here already. numpy is imported with the first one (20 MB and 0.1 s
that an idle node does not spend).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from p2pfl.errors import BlobError
from p2pfl.schema import DTYPE_BYTES, Schema, TensorSpec, file_bytes, header

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_BYTES = 128 * 1024
"""Of a file, read at a time: it stays in a processor's cache. It is read into one buffer and not mapped:
mapped pages would count as the node's memory."""

_BF16_EXPONENT = 0x7F80
"""All exponent bits of a bfloat16 set: an infinity or not a number."""

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
"""What numpy calls them."""

_Finite = Callable[[bytes | memoryview], "NDArray[Any]"]
"""Returns for each element in some bytes whether it is finite."""


class _Run(NamedTuple):
    """Neighbours of one dtype in a file."""

    start: int
    end: int
    """Offsets in the file."""
    width: int
    """Bytes of an element."""
    finite: _Finite | None
    """None where all numbers are."""


class Checker:
    """Looks at the bytes of a model file, piece by piece from the first to the last."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._header = header(schema)
        self._length = file_bytes(schema)
        self._runs: list[_Run] = []
        start = len(self._header)
        for dtype, specs in groupby(schema, key=lambda spec: spec.dtype):
            end = start + sum(spec.nbytes for spec in specs)
            self._runs.append(_Run(start, end, DTYPE_BYTES[dtype], _finite(dtype)))
            start = end
        self._restart()

    def _restart(self) -> None:
        self._offset = 0
        """Of the next byte to come; -1 where some did not come this way."""
        self._split = b""
        """The begin of an element whose end has not come yet."""
        self._fault = ""

    @property
    def has_seen_all(self) -> bool:
        """Whether every byte of the file has been looked at."""
        return self._offset == self._length

    @property
    def has_fault(self) -> bool:
        """Whether what was looked at so far is no model that may be used."""
        return bool(self._fault)

    def take(self, offset: int, piece: bytes | bytearray | memoryview) -> None:
        """Look at *piece*, the bytes of the file from *offset* on; begin anew with offset 0."""
        if not offset:
            self._restart()
        if offset != self._offset:
            self._offset = -1
            return
        view = memoryview(piece)
        end = self._offset = offset + len(view)
        if self._fault:
            return
        expected = self._header[offset:end]
        if view[: len(expected)] != expected:
            self._fault = "does not begin with the header of this run's model"
            return
        for run in self._runs:
            low, high = max(offset, run.start), min(end, run.end)
            if low < high and run.finite is not None:
                self._look(run, run.finite, low, view[low - offset : high - offset])

    def _look(self, run: _Run, finite: _Finite, offset: int, part: memoryview) -> None:
        """Look at *part* of *run*, whole elements at a time."""
        inside = (offset - run.start) % run.width
        if inside:
            missing = run.width - inside
            self._split += part[:missing]
            if len(self._split) < run.width:
                return
            self._judge(run, finite(self._split), offset - inside)
            offset, part = offset + missing, part[missing:]
        whole = len(part) - len(part) % run.width
        if whole:
            self._judge(run, finite(part[:whole]), offset)
        self._split = bytes(part[whole:])

    def _judge(self, run: _Run, finite: NDArray[Any], offset: int) -> None:
        """Note the first of the elements from *offset* on that is not finite."""
        if not finite.all() and not self._fault:
            tensor = self._tensor_at(offset + int(finite.argmin()) * run.width)
            self._fault = f"holds a number that is not finite (NaN or infinity), in tensor {tensor}"

    def _tensor_at(self, offset: int) -> TensorSpec:
        ends = accumulate((spec.nbytes for spec in self._schema), initial=len(self._header))
        next(ends)  # the header's
        return next(spec for spec, end in zip(self._schema, ends, strict=True) if offset < end)

    def conclude(self, name: str) -> None:
        """Tell of blob *name* what was found.

        Raises:
            BlobError: another header, or an element that is not finite (names the first such tensor).
        """
        if self._fault:
            raise BlobError(f"blob {name} {self._fault}")


def check_blob(path: Path, schema: Schema) -> None:
    """Check the file at *path* against *schema*; its digest was checked while it was pulled.

    Raises:
        BlobError: another header or length, or an element that is not finite (names the first such tensor).
        FileNotFoundError: it is not here.
    """
    checker, offset = Checker(schema), 0
    with path.open("rb", buffering=0) as file:
        size = path.stat().st_size
        if size != file_bytes(schema):
            raise BlobError(
                f"blob {path.name} has {size} bytes, but a file of this run's model has {file_bytes(schema)}"
            )
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while offset < size and not checker.has_fault:
            count = file.readinto(buffer)
            if not count:
                raise BlobError(f"blob {path.name} became shorter while it was read")
            checker.take(offset, buffer[:count])
            offset += count
    checker.conclude(path.name)


def _finite(dtype: str) -> _Finite | None:
    """Return what tells which numbers in some bytes of *dtype* are finite; None where all are."""
    import numpy as np

    if dtype == "BF16":  # numpy has no such type: look at the bits
        return lambda part: (np.frombuffer(part, "<u2") & _BF16_EXPONENT) != _BF16_EXPONENT
    kind = _FLOATS.get(dtype)
    return None if kind is None else lambda part: np.isfinite(np.frombuffer(part, kind))
