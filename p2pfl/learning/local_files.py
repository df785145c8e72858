"""What a device keeps beside its blobs for itself: names of folders and tensors, without torch.

`memory/RUN/ROUND-UPDATE` is what the device remembers of a run (`p2pfl.learning.memory`).
`frozen/DIGEST` has the frozen tensors of a model (`p2pfl.learning.local_model`).
"""

from __future__ import annotations

from pathlib import Path

PERSONAL_PREFIX = "personal:"
"""Before the name of a personal tensor in the memory of a device."""

DITTO_PREFIX = "ditto:"
"""Before the name of a tensor of the personal model of Ditto."""


def memory_folder(blobs: Path) -> Path:
    """Return the folder of the memory of a device whose models are in the folder *blobs*."""
    return blobs.parent / "memory"


def memory_files(blobs: Path, run: str) -> dict[str, Path]:
    """Return the files of the memory of *run*, by the first 32 digits of their updates, the oldest first."""
    found = [path for path in (memory_folder(blobs) / run[:32]).glob("*-*") if path.suffix != ".part"]
    found.sort(key=lambda path: int(path.name.partition("-")[0]))
    return {path.name.partition("-")[2]: path for path in found}


def frozen_file(blobs: Path, digest: str) -> Path:
    """Return the path of the frozen tensors with *digest*, of a device whose models are in *blobs*."""
    return blobs.parent / "frozen" / digest
