"""The model of a run in the memory of one device: what is exchanged of it, and what the device adds.

A model file has the shared tensors only (`p2pfl.learning.exchange`). The personal ones are in the memory of
the device (`p2pfl.learning.memory`). The frozen ones are in the module as the code of the task made it, or as
another device has them: then they were pulled before. A copy of the frozen tensors is beside the blobs, so
that a model can be exported without torch, and other devices can pull it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from p2pfl.errors import BlobError, WorkerError
from p2pfl.learning import weights
from p2pfl.learning.exchange import frozen_buffers, restore, tensor_kinds
from p2pfl.learning.local_files import DITTO_PREFIX, PERSONAL_PREFIX, frozen_file
from p2pfl.learning.slots import Slots, read_slots, slot_pieces
from p2pfl.schema import Schema, frozen_to_take, is_mark
from p2pfl.spec import slot_schema

Remembered = Mapping[str, Tensor]
"""What a device remembers of a run, by name."""


class LocalModel:
    """A module whose shared tensors are read from model files and written to updates."""

    def __init__(self, module: nn.Module, personal: Sequence[str] = ()) -> None:
        """Take *module* as it is initialised; *personal* are the patterns of the run."""
        self.module = module
        self.personal = tuple(personal)
        self._initial = self._personal_tensors()
        """The personal tensors of a device that remembers none."""
        self._still = frozen_buffers(module, self.personal)
        """A loop of the user's own may change these, and the devices do not exchange them."""
        self._holds: tuple[object, ...] | None = None
        """Device, inode and modification time of the file whose tensors the module has, and the key of the
        personal ones. None: unknown."""
        self._kept_in: set[Path] = set()
        """The folders of blobs that have the frozen tensors beside them."""

    @property
    def schema(self) -> Schema:
        """The schema of what is exchanged."""
        return weights.schema_of(self.module, self.personal)

    @property
    def shared(self) -> frozenset[str]:
        """The names of the tensors that are exchanged."""
        return frozenset(tensor_kinds(self.module, self.personal).shared)

    def load(self, path: Path, key: str, recall: Callable[[], Remembered]) -> None:
        """Read the model file *path*, named by its digest, and the personal tensors of *key*.

        *recall* returns what the device remembers with *key*. Nothing is read if the module has these tensors
        already: a round evaluates its parent model before it trains it.

        Raises:
            BlobError: the file is not canonical, does not fit this model, or is damaged.
            WorkerError: the frozen tensors cannot be written.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise BlobError(f"The model file {path} cannot be opened ({error.strerror}).") from error
        held = (status.st_dev, status.st_ino, status.st_mtime_ns, key)
        if self._holds != held:
            self._holds = None
            self.take_frozen(path)
            weights.load_into(path, self.module, path.name, self.personal)
            self.restore_own(recall)
            self._holds = held
        self.keep_frozen(path.parent)

    def restore_own(self, recall: Callable[[], Remembered]) -> None:
        """Put the tensors that are not exchanged into the module: the frozen buffers, and the personal ones.

        *recall* returns what the device remembers.
        """
        restore(self.module, self._still)
        if self._initial:
            mine = personal_in(recall())
            known = {name: mine[name] for name in self._initial if name in mine}
            restore(self.module, self._initial | known)

    def changed(self) -> None:
        """Note that the tensors of the module are no longer those that were loaded."""
        self._holds = None

    def save(self, path: Path, *, durable: bool = True) -> str:
        """Write what is exchanged to *path*; return the digest of the file.

        Raises:
            WorkerError: the file cannot be written.
        """
        return weights.save(path, self.module, self.personal, durable=durable)

    def to_remember(self) -> dict[str, Tensor]:
        """Return the personal tensors under the names of the device's memory."""
        return {f"{PERSONAL_PREFIX}{name}": value for name, value in self._personal_tensors().items()}

    def read_slots(self, path: Path | None, slots: Sequence[str]) -> Slots:
        """Return the numbers of the strategy in the file *path*; zeros without one.

        Raises:
            BlobError: it cannot be read.
        """
        schema = self.schema
        if path is None:
            state = self.module.state_dict()
            names = (spec.name for spec in schema if not is_mark(spec))
            zeros = {name: torch.zeros_like(state[name], device="cpu") for name in names}
            return dict.fromkeys(slots, zeros)
        with weights.ModelFile(path) as file:
            return read_slots(file, schema, slots)

    def write_slots(self, path: Path, numbers: Slots) -> str:
        """Write the *numbers* of the strategy to *path*, not flushed; return the digest of the file.

        Raises:
            WorkerError: it cannot be written.
        """
        schema = self.schema
        pieces = slot_pieces(numbers, schema)
        return weights.write(path, slot_schema(schema, tuple(numbers)), pieces, durable=False)

    def copied(self) -> dict[str, Tensor]:
        """Return copies of all tensors that are not frozen, by name."""
        state = self.module.state_dict()
        kinds = tensor_kinds(self.module, self.personal, state)
        return {name: state[name].detach().clone() for name in (*kinds.shared, *kinds.personal)}

    def release(self) -> None:
        """Free the memory of the shared tensors, if it is much, until the next `load`."""
        self.changed()
        weights.release(self.module, self.personal)

    def _personal_tensors(self) -> dict[str, Tensor]:
        if not self.personal:
            return {}
        state = self.module.state_dict()
        names = tensor_kinds(self.module, self.personal, state).personal
        return {name: state[name].detach().clone() for name in names}

    def take_frozen(self, path: Path) -> None:
        """Read the frozen tensors of the run, where the model file *path* marks others, and they were pulled.

        Raises:
            BlobError: they, or the model file, cannot be read.
        """
        with weights.ModelFile(path) as file:
            frozen = frozen_to_take(self.schema, file.schema)
        if frozen is not None and (pulled := frozen_file(path.parent, frozen.digest)).exists():
            weights.take_frozen(pulled, self.module, self.personal)
            self._still = frozen_buffers(self.module, self.personal)

    def keep_frozen(self, blobs: Path) -> None:
        """Write the frozen tensors beside the folder *blobs*, once."""
        if blobs in self._kept_in:
            return
        if tensor_kinds(self.module, self.personal).frozen:
            target = frozen_file(blobs, weights.frozen_tensors(self.module, self.personal).digest)
            half = target.with_suffix(".part")
            try:
                if not target.exists():
                    target.parent.mkdir(mode=0o700, exist_ok=True)
                    state = self.module.state_dict()
                    schema = weights.frozen_schema(self.module, self.personal)
                    weights.write(half, schema, (state[spec.name] for spec in schema))
                    half.replace(target)
            except OSError as error:
                why = error.strerror
                raise WorkerError(f"The frozen parameters cannot be written to {target} ({why}).") from error
        self._kept_in.add(blobs)


def personal_in(remembered: Remembered) -> dict[str, Tensor]:
    """Return the personal tensors in what a device remembers, by their names in the model."""
    return {
        name.removeprefix(PERSONAL_PREFIX): value
        for name, value in remembered.items()
        if name.startswith(PERSONAL_PREFIX)
    }


def of_strategy(remembered: Remembered) -> dict[str, Tensor]:
    """Return what the strategy remembers in its slots, without personal tensors and models."""
    prefixes = (PERSONAL_PREFIX, DITTO_PREFIX)
    return {name: value for name, value in remembered.items() if not name.startswith(prefixes)}
