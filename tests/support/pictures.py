"""Write folders of pictures, with a folder for each class."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def noise(seed: int, height: int = 8, width: int = 8, channels: int = 1) -> NDArray[np.uint8]:
    """Return a picture that no other seed has: [height, width], with 3 channels [height, width, 3]."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Write *pixels* to *path*, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_noise(folder: Path, **counts: int) -> Path:
    """Write as many different pictures into *folder*/CLASS as *counts* says for each class."""
    for label, count in counts.items():
        for number in range(count):
            seed = int.from_bytes(f"{folder.name}{label}{number}".encode())
            write_picture(folder / label / f"{number}.png", noise(seed))
    return folder


def write_digits(folder: Path, rows: Iterable[int], without: Iterable[int] = ()) -> Path:
    """Write some of scikit-learn's handwritten digits (8x8) into *folder*/DIGIT, except classes *without*."""
    from sklearn.datasets import load_digits

    digits, skipped = load_digits(), set(without)
    for row in rows:
        label = int(digits.target[row])
        if label not in skipped:
            pixels = np.minimum(digits.images[row] * 16, 255).astype(np.uint8)
            write_picture(folder / str(label) / f"{row}.png", pixels)
    return folder
