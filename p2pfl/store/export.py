"""Export of a model from the store to a file: verified while it is copied, and complete or absent."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from p2pfl.errors import DataDirectoryError, UserError
from p2pfl.learning.local_files import DITTO_PREFIX, PERSONAL_PREFIX, frozen_file, memory_files
from p2pfl.schema import Layout, Schema, frozen_in, schema_in
from p2pfl.store.assemble import TensorFile, assemble, is_damaged
from p2pfl.store.durable import disk_errors, flush, flush_folder

CHUNK_BYTES = 1024 * 1024
"""Bytes copied at a time."""


def export_blob(
    blob: Path,
    layout: Layout,
    target: Path,
    *,
    force: bool,
    metadata: Mapping[str, str] | None = None,
    personal: Path | None = None,
    is_ditto: bool = False,
    lora_scale: float | None = None,
) -> None:
    """Copy the file *blob*, named by its digest and of *layout*, to *target*, durably.

    With *metadata*, the copy has another header, which holds these too. The tensors are the same bytes. If
    the run has frozen tensors, they are added, and with *personal*, a file of the memory of this device
    (`personal_file`), its personal tensors; or, with *is_ditto*, its personal model of Ditto in place of the
    exchanged tensors. With *lora_scale* the adapters of the model are merged.

    Raises:
        UserError: *target* exists and *force* is not set, or its folder cannot be written to.
        DataDirectoryError: the blob or the frozen tensors are gone, or their bytes are no longer those of
            their digest.
    """
    if target.is_dir():
        raise UserError(
            f"{target} is a folder; name the file to write, for example {target / 'model.safetensors'}"
        )
    if target.exists() and not force:
        raise UserError(f"{target} exists already; choose another name, or add --force to replace it")
    if not target.absolute().parent.is_dir():
        raise UserError(
            f"the folder {target.absolute().parent} does not exist; make it first, or choose another one"
        )
    half = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    whole = half.with_name(f"{half.name}.whole")
    try:
        with _open(blob) as source, disk_errors("write", target):
            with half.open("xb") as copy:
                schema = _copy(source, copy, blob, layout, metadata or {})
                flush(copy.fileno())
            others = _others(blob, schema, personal, DITTO_PREFIX if is_ditto else PERSONAL_PREFIX)
            if others:
                with whole.open("xb") as copy:
                    assemble(half, others, copy, lora_scale=lora_scale)
                    flush(copy.fileno())
                whole.replace(half)
            half.replace(target)
            flush_folder(target.absolute().parent)
    finally:
        for one in (half, whole):
            with suppress(OSError):
                one.unlink(missing_ok=True)


def personal_file(blobs: Path, run: str, updates: Iterable[str]) -> Path | None:
    """Return the file with what this device, whose models are in *blobs*, remembers of *run*.

    *updates* are the digests of counted updates up to the model in question, the latest first; those of other
    devices do not matter. If none of them has a file, the oldest that is here is returned; None without any.
    """
    files = memory_files(blobs, run)
    fitting = (files[digest[:32]] for digest in updates if digest[:32] in files)
    return next(fitting, next(iter(files.values()), None))


def _others(blob: Path, schema: Schema, personal: Path | None, prefix: str) -> list[TensorFile]:
    """Return the files with the tensors of a model that are not taken from its file *blob* of *schema*."""
    others = []
    if marked := frozen_in(schema):
        frozen = frozen_file(blob.parent, marked.digest)
        if not frozen.exists():
            raise DataDirectoryError(
                "the frozen parameters of this model are not here, since this device has not trained or "
                "evaluated one of its run: export it on a device that has"
            )
        if is_damaged(frozen):
            raise DataDirectoryError(
                f"the file {frozen} is damaged: its bytes are no longer the frozen parameters of the run; "
                "check the disk, and export the model on another node"
            )
        others.append(TensorFile(frozen))
    if personal is not None:
        others.append(TensorFile(personal, prefix))
    return others


def _open(blob: Path) -> BinaryIO:
    try:
        return blob.open("rb")
    except FileNotFoundError as error:
        raise _gone(blob) from error


def _gone(blob: Path) -> DataDirectoryError:
    return DataDirectoryError(f"the model {blob.name} is not here any more; export a later one")


def _copy(
    source: BinaryIO, copy: BinaryIO, blob: Path, layout: Layout, metadata: Mapping[str, str]
) -> Schema:
    """Copy and verify: the digest proves the bytes, and the header proves that safetensors can read them.

    Return the schema in the header.
    """
    hasher = blake3()
    size = 0
    schema: Schema = ()
    begins = True
    while piece := source.read(max(CHUNK_BYTES, layout.header_bytes)):
        begins = begins and (size > 0 or _has_header(piece, layout))
        if not size and begins:
            schema = schema_in(piece[: layout.header_bytes], layout)
        hasher.update(piece)
        if not size and begins and metadata:
            start = memoryview(piece)[: layout.header_bytes]
            copy.write(with_metadata(bytes(start), metadata))
            copy.write(memoryview(piece)[layout.header_bytes :])
        else:
            copy.write(piece)
        size += len(piece)
    if not begins or size != layout.file_bytes or hasher.hexdigest() != blob.name:
        if not blob.exists():
            raise _gone(blob)  # its node has deleted it meanwhile
        raise DataDirectoryError(
            f"the file {blob} is damaged: its bytes are no longer the model they were; check the disk, "
            "and export the model on another node"
        )
    return schema


def _has_header(piece: bytes, layout: Layout) -> bool:
    """Whether a file that begins with *piece* has the header of *layout*."""
    return blake3(piece[: layout.header_bytes]).hexdigest() == layout.header


def with_metadata(start: bytes, metadata: Mapping[str, str]) -> bytes:
    """Return the header *start* (`p2pfl.schema.header`) of a model file, with *metadata* at its beginning."""
    fields = json.loads(start[8:])
    own = fields.pop("__metadata__", {})
    whole = {"__metadata__": {**own, **metadata}, **fields}
    text = json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
