from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from p2pfl.learning.models import ImageShape
from p2pfl.learning.pictures import files as picture_files
from p2pfl.learning.pictures.files import PictureError, measure_picture, read_picture

RED, WHITE = (255, 0, 0), (255, 255, 255)

WRITTEN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera writes an upright picture, by orientation; Pillow turns counterclockwise."""


class Files:
    """Writes a picture, then measures and reads it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "picture"

    def read(self, shape: ImageShape) -> NDArray[np.uint8]:
        return read_picture(self.path, shape)

    def read_own(self, image: Image.Image, kind: str = "PNG", **options: Any) -> NDArray[np.uint8]:
        """Save *image* and read it in the shape in which it is measured."""
        image.save(self.path, kind, **options)
        return self.read(measure_picture(self.path.read_bytes()))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def _quarters(mode: str = "RGB") -> Image.Image:
    """Return a picture of 8x16 pixels whose four quarters differ."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:4, :8], pixels[:4, 8:], pixels[4:, :8] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "WEBP", "GIF", "JPEG2000", "AVIF"])
def test_the_usual_formats_are_read(files: Files, kind: str) -> None:
    exact: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    }
    options = exact.get(kind, {})
    pixels = files.read_own(_quarters(), kind, **options)
    assert pixels.shape == (3, 8, 16)
    assert np.abs(pixels.transpose(1, 2, 0).astype(int) - np.asarray(_quarters())).max() <= 60


def test_a_picture_of_the_wanted_shape_is_read_as_it_is(files: Files) -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert np.array_equal(files.read_own(grey), np.asarray(grey)[np.newaxis])


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 1), ("I;16", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)],
)
def test_the_channels_follow_from_the_mode(files: Files, mode: str, channels: int) -> None:
    Image.new(mode, (5, 7)).save(files.path, "PNG")
    assert measure_picture(files.path.read_bytes()) == ImageShape(channels, 7, 5)


def test_sixteen_bits_keep_their_upper_eight(files: Files) -> None:
    values = np.array([[0, 255, 256, 32768], [65535, 65280, 1000, 511]], np.uint16)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(files.read_own(Image.fromarray(values), kind)[0], values // 256)
    big = b"P5 4 2 65535\n" + values.astype(">u2").tobytes()
    files.path.write_bytes(big)
    assert np.array_equal(files.read(measure_picture(big))[0], values // 256)


def test_transparency_is_white(files: Files) -> None:
    image = Image.new("RGBA", (4, 4), (*RED, 0))
    image.putpixel((0, 0), (*RED, 255))
    image.putpixel((1, 0), (*RED, 128))
    pixels = files.read_own(image)
    assert [tuple(pixels[:, 0, column]) for column in range(3)] == [RED, (255, 127, 127), WHITE]
    assert files.read_own(Image.new("LA", (4, 4), (0, 0))).min() == 255


def test_a_palette_may_have_a_transparent_colour(files: Files) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([*RED, 0, 0, 255])
    image.putpixel((0, 0), 0)
    pixels = files.read_own(image, transparency=1)
    assert (tuple(pixels[:, 0, 0]), tuple(pixels[:, 3, 3])) == (RED, WHITE)


def test_cmyk_becomes_rgb(files: Files) -> None:
    pixels = files.read_own(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    assert np.abs(pixels[:, 8, 8].astype(int) - RED).max() < 5


def test_channels_are_converted_to_those_wanted(files: Files) -> None:
    Image.new("RGB", (8, 8), RED).save(files.path, "PNG")
    assert files.read(ImageShape(1, 8, 8)).tolist() == np.full((1, 8, 8), 76).tolist()
    Image.new("L", (8, 8), 9).save(files.path, "PNG")
    assert files.read(ImageShape(3, 8, 8)).tolist() == np.full((3, 8, 8), 9).tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_rotated_picture_is_read_upright(files: Files, orientation: int, kind: str) -> None:
    upright = _quarters().resize((64, 32), Image.Resampling.NEAREST)
    turned = upright if orientation == 1 else upright.transpose(WRITTEN[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = files.read_own(turned, kind, exif=exif)
    assert pixels.shape == (3, 32, 64)
    for row, column in ((4, 8), (4, 56), (28, 8), (28, 56)):
        seen, wanted = pixels[:, row, column].astype(int), np.array(upright.getpixel((column, row)))
        assert np.abs(seen - wanted).max() < 40, (row, column)


def test_damaged_exif_data_are_ignored(files: Files) -> None:
    Image.new("L", (6, 4)).save(files.path, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff")
    assert measure_picture(files.path.read_bytes()) == ImageShape(1, 4, 6)


def test_the_shorter_side_is_scaled_and_the_longer_one_cropped_at_its_centre(files: Files) -> None:
    pixels = np.zeros((40, 100), np.uint8)
    pixels[:, 30:70] = 200
    Image.fromarray(pixels).save(files.path, "PNG")
    assert files.read(ImageShape(1, 20, 20))[0, :, 1:-1].min() == 200
    wide = files.read(ImageShape(1, 20, 50))[0]
    assert (wide[:, :14].max(), wide[:, 16:34].min(), wide[:, 36:].max()) == (0, 200, 0)
    assert files.read(ImageShape(1, 80, 80))[0, :, 2:-2].min() == 200


def test_a_large_jpeg_is_scaled_like_a_png(files: Files) -> None:
    photo = _quarters().resize((1600, 800), Image.Resampling.BICUBIC)
    photo.save(files.path, "JPEG", quality=95)
    scaled = files.read(ImageShape(3, 32, 32)).astype(int)
    photo.save(files.path, "PNG")
    assert np.abs(scaled - files.read(ImageShape(3, 32, 32))).mean() < 3


def test_of_an_animation_the_first_image_is_read(files: Files) -> None:
    first, second = Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), (0, 0, 255))
    pixels = files.read_own(first, "GIF", save_all=True, append_images=[second])
    assert tuple(pixels[:, 0, 0]) == RED


def _png() -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "PNG")
    return stream.getvalue()


def _jpeg() -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"no picture at all", "in no format that can be read"),
        (_png()[:-500], "truncated|broken|incomplete"),
        (_jpeg()[:-200], "truncated"),
        (_png().replace(b"IDAT", b"IDAX", 1), "."),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
            "in no format that can be read",
        ),
    ],
)
def test_a_file_that_is_no_whole_picture_is_refused(files: Files, content: bytes, why: str) -> None:
    with pytest.raises(PictureError, match=why):
        measure_picture(content)
    files.path.write_bytes(content)
    with pytest.raises(PictureError):
        files.read(ImageShape(1, 8, 8))


def test_a_missing_file_is_a_picture_error(files: Files) -> None:
    with pytest.raises(PictureError, match="No such file"):
        files.read(ImageShape(1, 8, 8))


def test_a_picture_of_floating_point_numbers_is_refused(files: Files) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(files.path, "TIFF")
    with pytest.raises(PictureError, match="floating-point"):
        measure_picture(files.path.read_bytes())


def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_files, "MAX_PIXELS", 64 * 64 - 1)
    content = _png()
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(PictureError, match="it has 64x64 pixels, more than 4,095"):
        measure_picture(content)


def test_a_picture_too_large_for_pillow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 // 2 - 1)
    with pytest.raises(PictureError, match="bomb"):
        measure_picture(_png())


def test_memory_that_runs_out_is_no_fault_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: Image.Image) -> None:
        raise MemoryError

    content = _png()
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(MemoryError):
        measure_picture(content)
