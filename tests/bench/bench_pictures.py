"""Measure time and memory of reading a device's own pictures.

The pictures are small ones in colour, as PNG files; another process writes them. Memory is resident memory of
this process at its highest, less what it had after it read a few pictures, in units of the tensor with all
pictures.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from p2pfl.agreement import merge_cards
from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.pictures.batches import PictureBatches
from p2pfl.learning.pictures.task import open_pictures
from p2pfl.spec import PicturesTask
from tests.bench.command_line import Settings, run
from tests.bench.report import Figure
from tests.support.learning import pictures_spec
from tests.support.pictures import noise, write_picture

SIDE = 32

SAMPLE_SECONDS = 0.005
"""Interval at which the memory is read."""


class Peak:
    """The highest resident memory of this process since the start, in bytes."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.before = self.highest = self._process.memory_info().rss

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """Sample the memory inside."""
        ended = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(ended,))
        sampler.start()
        yield
        ended.set()
        sampler.join()

    def _sample(self, ended: threading.Event) -> None:
        while not ended.wait(SAMPLE_SECONDS):
            self.highest = max(self.highest, self._process.memory_info().rss)


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield seconds and memory of describing and reading pictures."""
    count = 5_000 if settings.is_quick else 20_000
    for name, pictures in (("few", 100), ("many", count)):
        writer = multiprocessing.get_context("spawn").Process(
            target=write_pictures, args=(settings.folder / name, pictures)
        )
        writer.start()
        writer.join()
    read(settings.folder / "few")
    peak = Peak()
    with peak.sampled():
        describing, reading, tensor_bytes = read(settings.folder / "many")
    note = f"{count:,} of {SIDE}x{SIDE} in colour, {torch.get_num_threads()} threads"
    yield Figure("checking and describing own pictures", describing, "s", note=note)
    yield Figure("reading them into memory", reading, "s", note=note)
    megabytes = (peak.highest - peak.before) / 1e6
    yield Figure(
        "peak memory of both, in tensors of the pictures",
        (peak.highest - peak.before) / tensor_bytes,
        budget=1.5,
        note=f"{megabytes:.0f} MB for {tensor_bytes / 1e6:.0f} MB",
    )


def write_pictures(folder: Path, count: int) -> None:
    """Write *count* pictures of ten classes."""
    for number in range(count):
        write_picture(folder / str(number % 10) / f"{number}.png", noise(number, SIDE, SIDE, 3))


def read(folder: Path) -> tuple[float, float, int]:
    """Return the seconds of describing and of reading the pictures in *folder*, and the bytes of the tensor."""
    spec = pictures_spec()
    began = time.perf_counter()
    assert isinstance(spec.task, PicturesTask)
    local = open_pictures(spec.task, spec.seed, DataPlaces(own=folder))
    described = time.perf_counter()
    agreement, reason = merge_cards(spec.task, {"this": local.card})
    assert agreement is not None, reason
    part = local.prepare(spec, agreement, torch.device("cpu")).train_part(0)
    ended = time.perf_counter()
    assert isinstance(part, PictureBatches)
    assert isinstance(part.pictures, TensorBatches), "the pictures do not fit into memory"
    return described - began, ended - described, part.pictures.x.nbytes


if __name__ == "__main__":
    run("pictures", measure)
