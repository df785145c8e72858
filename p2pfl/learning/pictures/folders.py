"""Finds the pictures in a device's folder, and checks each of them once.

A folder has one folder for each class, or such folders in train/ and in test/ (or val/, valid/,
validation/). Pictures may lie deeper in a class folder. Hidden files and folders are ignored, and so are
files whose name is not that of a picture.

A picture that cannot be read is left out by name. So each picture is decoded here, before its shape in the
run is known, and once more when the run's shape is agreed on.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

import torch
from blake3 import blake3

from p2pfl.cards import MAX_CLASSES
from p2pfl.errors import TaskError
from p2pfl.learning.models import ImageShape
from p2pfl.learning.pictures.files import SUFFIXES, PictureError, measure_picture
from p2pfl.learning.progress import ProgressLines
from p2pfl.paths import holds_folder, is_text, is_there, obstacle, shown

TRAIN_FOLDER = "train"

TEST_FOLDERS = ("test", "val", "valid", "validation")
"""Names of the folder with the pictures to evaluate on; the first that is there is used."""

BLOCK = 32
"""Pictures that a thread takes at a time."""

MAX_LABEL = 64
"""Maximum number of characters of the name of a class, as in a data card."""

MAX_NAMED = 3
"""Maximum number of files that a note names."""

MAX_NAME = 70
"""Maximum number of characters of a file's name in a note."""

T = TypeVar("T")


class Picture(NamedTuple):
    """A picture that can be read."""

    path: str
    """Relative to the folder of the device."""
    label: str
    digest: bytes
    """Of the content of the file."""


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a device."""

    root: Path
    train: tuple[Picture, ...]
    """All pictures if there is no folder to evaluate on."""
    test: tuple[Picture, ...]
    """Those of the folder to evaluate on."""
    shape: ImageShape
    """The most frequent one."""
    notes: tuple[str, ...]
    """What is unusual, in sentences for people."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that have a picture, sorted."""
        return tuple(sorted({picture.label for picture in (*self.train, *self.test)}))


def in_blocks(count: int, work: Callable[[range], T], progress: ProgressLines) -> Iterator[T]:
    """Yield the results of *work* for blocks of the numbers below *count*, in order.

    As many threads work as torch uses: decoding a picture releases the interpreter's lock.
    """
    blocks = [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    with ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="pictures") as threads:
        for block, result in zip(blocks, threads.map(work, blocks), strict=True):
            progress.update(block.stop)
            yield result


def scan_folder(root: Path) -> PictureFolder:
    """Find and check the pictures in *root*.

    Raises:
        TaskError: there is no such folder, no class folder, or no picture that can be read.
    """
    train_folder, test_folder, notes = _layout(root)
    train, stray = _listed(root, train_folder)
    test = _listed(root, test_folder)[0] if test_folder is not None else []
    if not train:
        raise TaskError(f"{_found(train_folder)}; {_expected(train_folder)}.")
    checked = _Checked(root, [*train, *test])
    good = [picture for picture in checked.pictures[: len(train)] if picture is not None]
    good_test = [picture for picture in checked.pictures[len(train) :] if picture is not None]
    if not good:
        raise TaskError(
            f"None of the {len(train):,} picture files in {shown(train_folder)} can be read "
            f"({_names(checked.broken)}: {checked.reason}); expected files such as PNG or JPEG."
        )
    if checked.broken:
        verb = "is" if len(checked.broken) == 1 else "are"
        what = _counted(len(checked.broken), "file")
        notes.append(f"{what} cannot be read and {verb} left out: {_names(checked.broken)}")
    if stray:
        notes.append(f"{_counted(stray, 'picture')} outside of the class folders left out")
    if test_folder is not None and not good_test:
        notes.append(f"the folder {shown(test_folder.name)} has no picture to evaluate on")
    notes += _empty_classes(train_folder, {picture.label for picture in good})
    notes += _copies(good, good_test)
    notes += _single_class(good)
    return PictureFolder(root, tuple(good), tuple(good_test), checked.most_frequent_shape(), tuple(notes))


class _Checked:
    """The pictures of all files of a device, after each was read once."""

    def __init__(self, root: Path, files: Sequence[tuple[str, str]]) -> None:
        """Check *files*: class and path in *root* of each."""
        self.pictures: list[Picture | None] = []
        """In the order of the files; None: the file cannot be read."""
        self.broken: list[str] = []
        self.reason = ""
        """Why the first broken file cannot be read."""
        self._shapes: Counter[ImageShape] = Counter()

        def check(block: range) -> list[tuple[bytes, ImageShape] | str]:
            return [_check(root / files[index][1]) for index in block]

        progress = ProgressLines("checking pictures", len(files))
        results = (one for block in in_blocks(len(files), check, progress) for one in block)
        for (label, path), result in zip(files, results, strict=True):
            if isinstance(result, str):
                self.broken.append(path)
                self.reason = self.reason or result
                self.pictures.append(None)
            else:
                self._shapes[result[1]] += 1
                self.pictures.append(Picture(path, label, result[0]))

    def most_frequent_shape(self) -> ImageShape:
        """Return the most frequent shape; the largest of several."""
        return max(self._shapes, key=lambda shape: (self._shapes[shape], shape))


def _check(path: Path) -> tuple[bytes, ImageShape] | str:
    """Return digest and shape of a picture, or why it cannot be read."""
    try:
        content = path.read_bytes()
        return blake3(content).digest(16), measure_picture(content)
    except OSError as error:
        return error.strerror or str(error)
    except PictureError as error:
        return str(error)


# --- folders ------------------------------------------------------------------------------------------------


def _layout(root: Path) -> tuple[Path, Path | None, list[str]]:
    """Return the folder with the classes to train on, the one to evaluate on if there is one, and notes.

    A folder train/ is a class of its own (pictures of trains) if it has no folders, or if other folders but
    none to evaluate on are beside it.
    """
    if not holds_folder(root):
        why = obstacle(root) or ("it is a file" if is_there(root) else "it does not exist")
        raise TaskError(
            f"The pictures cannot be read: --data {shown(root)} is no folder ({why}); expected a folder with "
            "one folder for each class."
        )
    names = _entries(root)[0]
    tests = [name for name in TEST_FOLDERS if name in names]
    is_split = TRAIN_FOLDER in names and bool(_entries(root / TRAIN_FOLDER)[0])
    if not is_split or not (tests or len(names) == 1):
        return root, None, []
    unused = [f"{name}/" for name in names if name not in (TRAIN_FOLDER, *tests[:1])]
    notes = [f"{_names(unused)} beside train/ not used"] if unused else []
    return root / TRAIN_FOLDER, root / tests[0] if tests else None, notes


def _listed(root: Path, top: Path) -> tuple[list[tuple[str, str]], int]:
    """Return class and path in *root* of every picture file in the class folders of *top*, sorted by path.

    The second value is the number of picture files beside the class folders.
    """
    folders, names = _entries(top)
    if len(folders) > MAX_CLASSES:
        raise TaskError(
            f"The folder {shown(top)} has {len(folders):,} class folders, and {MAX_CLASSES:,} are possible."
        )
    files = []
    for folder in folders:
        label = _label(folder)
        for inside, inner, found in os.walk(top / folder, onerror=_refuse):
            inner[:] = [name for name in inner if not name.startswith(".")]
            files += [
                (label, str(Path(inside, name).relative_to(root))) for name in found if _is_picture(name)
            ]
    return sorted(files, key=lambda file: file[1]), sum(map(_is_picture, names))


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the sorted names of the folders in *folder*, and those of its files, without hidden ones."""
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        _refuse(error)
    folders = sorted(entry.name for entry in entries if entry.is_dir())
    return folders, sorted(entry.name for entry in entries if entry.is_file())


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _refuse(error: OSError) -> NoReturn:
    raise TaskError(
        f"The folder {shown(error.filename)} cannot be read ({error.strerror}); make it readable for this "
        "user."
    ) from error


def _label(folder: str) -> str:
    """Return the name of the class in *folder*: some systems write an accent as a character of its own."""
    label = unicodedata.normalize("NFC", folder)
    if len(label) > MAX_LABEL or not is_text(label):
        raise TaskError(
            f"The class folder {shown(folder)} cannot name a class: use a name of at most {MAX_LABEL} "
            "characters in UTF-8."
        )
    return label


# --- sentences ----------------------------------------------------------------------------------------------


def _found(folder: Path) -> str:
    """Return what is in *folder*, which holds no picture in a class folder."""
    folders, names = _entries(folder)
    pictures = sum(map(_is_picture, names))
    if not folders and not names:
        return f"The folder {shown(folder)} is empty"
    if folders:
        what = f"{_counted(len(folders), 'folder')} ({_names(folders)}) without a picture file"
    else:
        what = "no folders"
    return (
        f"The folder {shown(folder)} has {what}, {_counted(pictures, 'picture')} and "
        f"{_counted(len(names) - pictures, 'other file')}"
    )


def _expected(folder: Path) -> str:
    example = shown(folder / "cat" / "1.jpg")
    return f"expected a folder for each class with its pictures inside, such as {example}"


def _empty_classes(folder: Path, filled: set[str]) -> list[str]:
    empty = [name for name in _entries(folder)[0] if _label(name) not in filled]
    if not empty:
        return []
    return [f"{_counted(len(empty), 'class folder')} without a picture: {_names(empty)}"]


def _copies(train: Sequence[Picture], test: Sequence[Picture]) -> list[str]:
    """Name the pictures whose files are equal."""
    first: dict[bytes, Picture] = {}
    copies = []
    for picture in (*train, *test):
        original = first.setdefault(picture.digest, picture)
        if original is not picture:
            copies.append((original, picture))
    if not copies:
        return []
    pair = " and ".join(_shown_name(picture.path) for picture in copies[0])
    verb = "is a copy" if len(copies) == 1 else "are copies"
    notes = [f"{_counted(len(copies), 'picture')} {verb} of another one: {pair}"]
    if contradicting := [pair for pair in copies if pair[0].label != pair[1].label]:
        pair = " and ".join(_shown_name(picture.path) for picture in contradicting[0])
        notes.append(f"{_counted(len(contradicting), 'pair')} of equal pictures in different classes: {pair}")
    known = {picture.digest for picture in train}
    if shared := sum(picture.digest in known for picture in test):
        notes.append(f"{_counted(shared, 'held-out picture')} also among those to train on")
    return notes


def _single_class(train: Sequence[Picture]) -> list[str]:
    labels = {picture.label for picture in train}
    return [f"all pictures are of the class {_shown_name(labels.pop())}"] if len(labels) == 1 else []


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _names(names: Sequence[str]) -> str:
    rest = len(names) - MAX_NAMED
    return ", ".join(map(_shown_name, names[:MAX_NAMED])) + (f" and {rest:,} more" if rest > 0 else "")


def _shown_name(name: str) -> str:
    """Return *name* as text that other devices can read and that is not too long for a note."""
    text = shown(name)
    return text if text.isprintable() and len(text) <= MAX_NAME else f"{ascii(text)[: MAX_NAME - 3]}..."
