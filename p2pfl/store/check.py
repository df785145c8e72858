"""Checks that the bytes of a blob are a usable model: header, length, and finite numbers.

A number must be finite, unless the number at the same position in the parent, the model that was trained on,
has the same bits: a mask of infinities, or the limits of an observer that has seen nothing, stay as they are.

The node checks what peers send, so that it refuses a broken update by name before the worker or the consensus
sees it. A `BlobValidator` checks bytes while they arrive and are in the processor's cache anyway;
`check_blob` runs it over an existing file. The first use imports numpy (20 MB and 0.1 s that an idle node
saves).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from p2pfl.errors import BlobError
from p2pfl.schema import DTYPE_BYTES, Layout, Schema, TensorSpec, schema_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_BYTES = 128 * 1024
"""Bytes of a file read at a time: they stay in a processor's cache. They are read into one buffer and not
mapped, because mapped pages count as the node's memory."""

_BF16_EXPONENT = 0x7F80
"""All exponent bits of a bfloat16 set: an infinity or not a number."""

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
"""numpy's names of the float types."""

_Finite = Callable[[bytes | memoryview], "NDArray[Any]"]
"""Returns for each element in some bytes whether it is finite."""


class _Run(NamedTuple):
    """Adjacent tensors of one dtype in a file."""

    start: int
    end: int
    """Offsets in the file."""
    width: int
    """Bytes of one element."""
    finite: _Finite | None
    """None for dtypes whose numbers are always finite."""


class BlobValidator:
    """Checks the bytes of a model file, piece by piece from the first to the last.

    The file of the *parent* is read only when a number is not finite. A file whose parent is *any* is of a
    record that was decided: whatever its numbers, they are the run's.
    """

    def __init__(self, layout: Layout, parent: Path | Literal["any"] | None = None) -> None:
        self._layout = layout
        self._parent = parent
        self._restart()

    def _restart(self) -> None:
        self._header = bytearray()
        """The part of the header that has arrived."""
        self._schema: Schema = ()
        self._runs: list[_Run] = []
        """Empty until the header has arrived."""
        self._offset = 0
        """Offset of the next byte; -1 where some bytes were skipped."""
        self._split = b""
        """The first bytes of an element whose last bytes have not arrived yet."""
        self._fault = ""
        self._lacks_parent = False

    @property
    def has_seen_all(self) -> bool:
        """Whether every byte of the file was checked."""
        return self._offset == self._layout.file_bytes

    @property
    def has_fault(self) -> bool:
        """Whether the bytes so far are no usable model."""
        return bool(self._fault)

    def take(self, offset: int, piece: bytes | bytearray | memoryview) -> None:
        """Check *piece*, the bytes of the file from *offset* on; offset 0 begins again."""
        if not offset:
            self._restart()
        if offset != self._offset:
            self._offset = -1
            return
        view = memoryview(piece)
        end = self._offset = offset + len(view)
        if self._fault:
            return
        if offset < self._layout.header_bytes:
            self._header += view[: self._layout.header_bytes - offset]
            if end < self._layout.header_bytes:
                return
            self._take_header(bytes(self._header))
        for run in self._runs:
            low, high = max(offset, run.start), min(end, run.end)
            if low < high and run.finite is not None:
                self._look(run, run.finite, low, view[low - offset : high - offset])

    def _take_header(self, start: bytes) -> None:
        """Read the schema from *start*, the whole header."""
        try:
            self._schema = schema_in(start, self._layout)
        except BlobError as error:
            text = str(error)
            begins = text.startswith("the file ")
            self._fault = text.removeprefix("the file ") if begins else f"cannot be used: {text}"
            return
        at = len(start)
        for dtype, specs in groupby(self._schema, key=lambda spec: spec.dtype):
            end = at + sum(spec.nbytes for spec in specs)
            finite = _finite(dtype) if self._parent != "any" else None
            self._runs.append(_Run(at, end, DTYPE_BYTES[dtype], finite))
            at = end

    def _look(self, run: _Run, finite: _Finite, offset: int, part: memoryview) -> None:
        """Check *part* of *run*, whole elements at a time."""
        inside = (offset - run.start) % run.width
        if inside:
            missing = run.width - inside
            self._split += part[:missing]
            if len(self._split) < run.width:
                return
            self._judge(run, finite(self._split), offset - inside, self._split)
            offset, part = offset + missing, part[missing:]
        whole = len(part) - len(part) % run.width
        if whole:
            self._judge(run, finite(part[:whole]), offset, part[:whole])
        self._split = bytes(part[whole:])

    def _judge(
        self, run: _Run, finite: NDArray[Any], offset: int, elements: bytes | bytearray | memoryview
    ) -> None:
        """Remember the first of the *elements* from *offset* on that is not allowed."""
        if finite.all() or self._fault:
            return
        may_be = finite | self._as_in_parent(run.width, offset, elements)
        if not may_be.all():
            tensor = self._tensor_at(offset + int(may_be.argmin()) * run.width)
            self._fault = f"holds a number that is not finite (NaN or infinity), in tensor {tensor}"

    def _as_in_parent(
        self, width: int, offset: int, elements: bytes | bytearray | memoryview
    ) -> NDArray[Any] | bool:
        """Return for each of *elements* whether the parent has the same bits at its position."""
        import numpy as np

        if self._parent is None:
            return False
        bits = np.frombuffer(elements, f"<u{width}")
        with suppress(OSError), Path(self._parent).open("rb", buffering=0) as file:
            file.seek(offset)
            theirs = file.read(len(elements))
            if len(theirs) == len(elements):
                same: NDArray[Any] = bits == np.frombuffer(theirs, bits.dtype)
                return same
        self._lacks_parent = True
        return True

    def _tensor_at(self, offset: int) -> TensorSpec:
        ends = accumulate((spec.nbytes for spec in self._schema), initial=self._layout.header_bytes)
        next(ends)  # the header's
        return next(spec for spec, end in zip(self._schema, ends, strict=True) if offset < end)

    def conclude(self, name: str) -> None:
        """Return if blob *name* is a usable model.

        Raises:
            BlobError: another header, or an element that is not finite (names the first such tensor).
            FileNotFoundError: the parent, which must be compared, is not here.
        """
        if self._fault:
            raise BlobError(f"blob {name} {self._fault}")
        if self._lacks_parent:
            raise FileNotFoundError(
                f"blob {name} holds numbers that are not finite (NaN or infinity); whether they may be there "
                "is known when the model it was trained from is here"
            )


def check_blob(path: Path, layout: Layout, parent: Path | Literal["any"] | None = None) -> None:
    """Check the file at *path* against *layout*; its digest was checked while it was pulled.

    *parent* is as of `BlobValidator`.

    Raises:
        BlobError: another header or length, or an element that is not finite (names the first such tensor).
        FileNotFoundError: it, or the parent that must be compared, is not here.
    """
    checker, offset = BlobValidator(layout, parent), 0
    with path.open("rb", buffering=0) as file:
        size = path.stat().st_size
        if size != layout.file_bytes:
            raise BlobError(
                f"blob {path.name} has {size} bytes, but a file of this run's model has {layout.file_bytes}"
            )
        buffer = memoryview(bytearray(CHUNK_BYTES))
        end = size if parent != "any" else min(size, layout.header_bytes)
        while offset < end and not checker.has_fault:
            count = file.readinto(buffer)
            if not count:
                raise BlobError(f"blob {path.name} became shorter while it was read")
            checker.take(offset, buffer[:count])
            offset += count
    checker.conclude(path.name)


def _finite(dtype: str) -> _Finite | None:
    """Return a function that tells which numbers in bytes of *dtype* are finite; None where all are."""
    import numpy as np

    if dtype == "BF16":  # numpy has no such type: check the bits
        return lambda part: (np.frombuffer(part, "<u2") & _BF16_EXPONENT) != _BF16_EXPONENT
    kind = _FLOATS.get(dtype)
    return None if kind is None else lambda part: np.isfinite(np.frombuffer(part, kind))
