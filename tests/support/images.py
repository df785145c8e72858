"""Write small data sets in IDX files, with images that are easy to classify."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

from p2pfl.learning.catalogue import IDX_FILES

FASHION_FIRST_LABELS = (9, 0, 0, 3, 0, 2, 7, 2, 5, 5)
"""First training labels of Fashion-MNIST, by which the task recognises its data."""


def idx(elements: bytes, *dimensions: int) -> bytes:
    """Return an IDX file of unsigned bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in dimensions)
    return bytes((0, 0, 8, len(dimensions))) + sizes + elements


def labels_of(examples: int, begin: Sequence[int] = FASHION_FIRST_LABELS) -> bytes:
    """Return *examples* labels: *begin*, then 0 to 9 in turn."""
    return bytes([*begin, *(index % 10 for index in range(examples))][:examples])


def images_of(labels: bytes, side: int) -> bytes:
    """Return an image for each of *labels*; its bright tenth depends on the label."""
    pixels = side * side
    images = []
    for label in range(10):
        start, end = label * pixels // 10, (label + 1) * pixels // 10
        images.append(bytes(start) + b"\xff" * (end - start) + bytes(pixels - end))
    return b"".join(images[label] for label in labels)


def write_images(folder: Path, train: int, test: int, side: int = 28, *, packed: bool = True) -> None:
    """Write the four files of a data set such as Fashion-MNIST into *folder*, plain or as `.gz`."""
    folder.mkdir(parents=True, exist_ok=True)
    for examples, names in ((train, IDX_FILES[:2]), (test, IDX_FILES[2:])):
        labels = labels_of(examples)
        contents = (idx(images_of(labels, side), examples, side, side), idx(labels, examples))
        for name, content in zip(names, contents, strict=True):
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
            else:
                (folder / name).write_bytes(content)
