"""Reads one picture: any usual file becomes 8-bit greyscale or colour of one shape.

What a picture goes through, in this order: its orientation (EXIF) is applied; 16-bit greyscale is divided by
256; palettes, CMYK and other colour spaces become RGB; transparency is composited on white; the shorter side
is scaled to the wanted shape and the longer one is cropped at its centre. Of an animation, the first image is
read.

Only the formats below are tried: Pillow knows others, and starts another program for one of them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from p2pfl.errors import TaskError
from p2pfl.learning.models import ImageShape

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Names in Pillow of the formats that are read, where it was built with them."""

SUFFIXES = frozenset(
    (
        *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
        *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    )
)
"""Ends of the names of picture files. Telephones write HEIC, which cannot be read: such files are named as
unreadable, not ignored."""

MAX_PIXELS = 89_478_485
"""Maximum number of pixels of a picture, as where Pillow warns: 268 MB in colour. A small file may expand to
far more than the memory of the device."""

_DEEP_GREY = frozenset(("I", "I;16", "I;16B", "I;16L", "I;16N"))
"""Pillow's modes of greyscale with 16 bits."""

_GREY = _DEEP_GREY | {"1", "L", "LA", "La"}

_ORIENTATION = 0x0112
"""The EXIF tag of the position of the camera."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture of each orientation upright; EXIF 2.32, section 4.6.4. Those from 5 swap the sides."""


class PictureError(TaskError):
    """A picture cannot be read; the text says why, as half a sentence."""


def measure_picture(content: bytes) -> ImageShape:
    """Decode a picture file and return the shape of the picture, upright.

    A JPEG file is decoded at an eighth of its size: this finds damage too, and takes less time.

    Raises:
        PictureError: the file is damaged, too large, or of no known format.
    """
    if not content:
        raise PictureError("it is empty")
    with _opened(io.BytesIO(content)) as image:
        width, height = image.size
        image.draft(None, (1, 1))
        image.load()
        if _orientation(image) >= 5:
            width, height = height, width
        return ImageShape(1 if image.mode in _GREY else 3, height, width)


def read_picture(path: Path, shape: ImageShape) -> NDArray[np.uint8]:
    """Return the picture in the file *path* as uint8 [channels, height, width] of *shape*.

    Raises:
        PictureError: the file is missing, damaged, too large, or of no known format.
    """
    with _opened(path) as image:
        side = 2 * max(shape.height, shape.width)  # of the scales that JPEG offers, one that loses no detail
        image.draft(None, (side, side))
        return fit_picture(image, shape)


def fit_picture(image: Image.Image, shape: ImageShape) -> NDArray[np.uint8]:
    """Return *image* as uint8 [channels, height, width] of *shape*."""
    upright = _upright(_eight_bits(image), _orientation(image))
    fitted = _fitted(_on_white(upright).convert("L" if shape.channels == 1 else "RGB"), shape)
    pixels = np.asarray(fitted, dtype=np.uint8)  # [height, width], with colour [height, width, 3]
    return pixels[np.newaxis] if shape.channels == 1 else pixels.transpose(2, 0, 1)


@contextmanager
def _opened(source: Path | io.BytesIO) -> Iterator[Image.Image]:
    """Open a picture; every error inside becomes a `PictureError`."""
    try:
        with Image.open(source, formats=_available()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise PictureError(f"it has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
            if image.mode == "F":
                raise PictureError("its pixels are floating-point numbers, whose range is unknown")
            yield image
    except (PictureError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise PictureError("it is in no format that can be read") from error
    except OSError as error:
        raise PictureError(error.strerror or str(error)) from error
    except Exception as error:  # Pillow raises errors of many kinds for damaged files
        raise PictureError(next(iter(str(error).splitlines()), type(error).__name__)) from error


@cache
def _available() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _orientation(image: Image.Image) -> int:
    """Return the orientation of a loaded picture, from 1, which is upright, to 8."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  damaged EXIF data; the picture itself can be read
        return 1
    return found if found in _UPRIGHT else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return *image* with 8 bits for each channel."""
    if image.mode not in _DEEP_GREY:
        return image
    values = np.clip(np.asarray(image), 0, 65535) >> 8  # [height, width]
    return Image.fromarray(values.astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    """Return *image* without transparency."""
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _fitted(image: Image.Image, shape: ImageShape) -> Image.Image:
    """Scale the shorter side of *image* to *shape*, and crop the longer one at its centre."""
    wanted = (shape.width, shape.height)
    if image.size == wanted:
        return image
    scale = min(image.width / shape.width, image.height / shape.height)
    left, top = (image.width - scale * shape.width) / 2, (image.height - scale * shape.height) / 2
    box = (left, top, image.width - left, image.height - top)
    return image.resize(wanted, Image.Resampling.BILINEAR, box, reducing_gap=3.0)
