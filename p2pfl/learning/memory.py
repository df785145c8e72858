"""What a device remembers for itself from round to round, such as its control variate. It never travels.

Each trained update has a file of its own here, with what the device would remember if the update counts. The
next training begins with the file of the last update that a committed record counts
(`p2pfl.work.TrainingJob.memory`). So a training that was repeated or left out leaves no trace. A device that
loses its disk loses its memory, and begins anew.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from p2pfl.errors import WorkerError

logger = logging.getLogger(__name__)


class RunMemory:
    """The memory of one run."""

    def __init__(self, folder: Path, run: str) -> None:
        self._folder = folder / run[:32]

    def recall(self, update: str) -> dict[str, Tensor]:
        """Return what was remembered with *update*, by name; empty without an update or a file.

        The update may be of a run that this one continues.
        """
        if not update:
            return {}
        name = f"*-{update[:32]}"
        path = next(self._folder.glob(name), None) or next(self._folder.parent.glob(f"*/{name}"), None)
        try:
            if path is not None:
                return load_file(path)
        except (OSError, SafetensorError) as error:
            logger.warning("the memory of this device cannot be read (%s); it begins anew", error)
            return {}
        logger.warning("this device has lost what it remembered of this run; it begins anew")
        return {}

    def remember(self, round_: int, update: str, tensors: Mapping[str, Tensor], *, keep: str) -> None:
        """Store *tensors*, by name, with *update* of *round_*; delete older files but that of update *keep*.

        Raises:
            WorkerError: the file cannot be written.
        """
        target = self._folder / f"{round_}-{update[:32]}"
        half = target.with_suffix(".part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with half.open("wb") as file:
                file.write(save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}))
                file.flush()
                os.fsync(file.fileno())
            half.replace(target)
            for path in self._folder.glob("*-*"):
                number, _, digest = path.name.partition("-")
                if number.isdecimal() and int(number) < round_ - 1 and digest != keep[:32]:
                    path.unlink()
        except OSError as error:
            raise WorkerError(
                f"What this device remembers of the run cannot be written to {target} ({error.strerror})."
            ) from error
