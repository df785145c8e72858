"""Small data sets in IDX files, of pictures that are easy to tell apart."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

from p2pfl.learning.catalogue import IDX_FILES

FASHION_BEGIN = (9, 0, 0, 3, 0, 2, 7, 2, 5, 5)
"""The first training labels of Fashion-MNIST, by which the task knows its data."""


def idx(elements: bytes, *dimensions: int) -> bytes:
    """Return an IDX file of unsigned bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in dimensions)
    return bytes((0, 0, 8, len(dimensions))) + sizes + elements


def labels_of(samples: int, begin: Sequence[int] = FASHION_BEGIN) -> bytes:
    """Return *samples* labels: *begin*, then all ten in turn."""
    return bytes([*begin, *(index % 10 for index in range(samples))][:samples])


def pictures_of(labels: bytes, side: int) -> bytes:
    """Return a picture for each of *labels*: the label's tenth of its pixels is bright."""
    pixels = side * side
    pictures = []
    for label in range(10):
        start, end = label * pixels // 10, (label + 1) * pixels // 10
        pictures.append(bytes(start) + b"\xff" * (end - start) + bytes(pixels - end))
    return b"".join(pictures[label] for label in labels)


def write_images(folder: Path, train: int, test: int, side: int = 28, *, packed: bool = True) -> None:
    """Write the four files of a data set such as Fashion-MNIST into *folder*, plain or as `.gz`."""
    folder.mkdir(parents=True, exist_ok=True)
    for samples, names in ((train, IDX_FILES[:2]), (test, IDX_FILES[2:])):
        labels = labels_of(samples)
        contents = (idx(pictures_of(labels, side), samples, side, side), idx(labels, samples))
        for name, content in zip(names, contents, strict=True):
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
            else:
                (folder / name).write_bytes(content)
