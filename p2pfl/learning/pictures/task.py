"""The task of private pictures as the worker uses it: each device trains on the pictures of its own folder.

A device describes its folder when it opens the task. The pictures are read when a job first needs them, not
when the model is created or compared: so all devices read at the same time, and a device that declines a run
reads none.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

import torch

from p2pfl.cards import MAX_NOTES, Agreement, DataCard, LabelCount
from p2pfl.errors import TaskError
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.holdout import hash_contents, hold_out
from p2pfl.learning.local_task import PreparedTask
from p2pfl.learning.models import MODELS, ImageShape
from p2pfl.learning.objective import Classification
from p2pfl.learning.pictures.batches import PictureDataset, PictureStore
from p2pfl.learning.pictures.folders import Picture, PictureFolder, scan_folder
from p2pfl.paths import shown
from p2pfl.spec import PicturesTask, RunSpec, task_name

MIN_SIDE = 4
"""Least edge in pixels of a picture: the models halve it twice."""


def open_pictures(task: PicturesTask, seed: int, places: DataPlaces) -> PicturesLocalTask:
    """Find and check this device's pictures.

    Raises:
        TaskError: the model is unknown, or the folder or the declared classes do not do for the task.
    """
    if task.model not in MODELS:
        raise TaskError(
            f"There is no model {task.model!r} for pictures; use one of {', '.join(MODELS)} with --model."
        )
    if places.own is None:
        raise TaskError("A run on pictures needs --data with a folder that has one folder for each class.")
    if task.share == "none" and not places.classes:
        raise TaskError(
            "With --share none a device does not tell its class folders: name the classes of all devices "
            "with --classes."
        )
    if task.share == "none" and not task.image_size:
        raise TaskError(
            "With --share none a device does not tell the size of its pictures: choose one with --image-size."
        )
    folder = scan_folder(places.own)
    if places.classes and (unknown := sorted(set(folder.classes) - set(places.classes))):
        raise TaskError(
            f"The folder {shown(places.own)} has pictures of {', '.join(map(repr, unknown[:5]))}, which "
            "--classes does not name; add the class or move its folder away."
        )
    train, test = folder.train, folder.test
    if not test:
        train, test = _divided(folder, task.holdout, seed)
    if task.share == "none":  # then nobody else tells this device's user
        sys.stderr.writelines(f"{note}\n" for note in folder.notes)
    return PicturesLocalTask(folder, train, test, _card(task, folder, train, places.classes), places)


def _divided(
    folder: PictureFolder, share: float, seed: int
) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """Hold out a share of the pictures, by hashes of *seed* and their content."""
    pictures = folder.train
    if len(pictures) == 1:
        raise TaskError(
            f"The folder {shown(folder.root)} has one picture; expected at least two: one to train on and "
            "one to evaluate on."
        )
    names = {label: index for index, label in enumerate(folder.classes)}
    keys = hash_contents(seed, (picture.digest for picture in pictures))
    rows = hold_out([names[picture.label] for picture in pictures], keys, share)
    train, test = (tuple(pictures[index] for index in part) for part in rows)
    return train, test


def _card(
    task: PicturesTask, folder: PictureFolder, train: Sequence[Picture], declared: Sequence[str]
) -> DataCard:
    """Return what this device tells about its pictures; *train* are those to train on."""
    name = task_name(task)
    if task.share == "none":
        shape = (3, task.image_size, task.image_size)
        labels = tuple(LabelCount(label, 0) for label in declared)
        return DataCard(name, 1, labels, share=task.share, input_shape=shape)
    counts = Counter(picture.label for picture in train) if task.share == "labels" else Counter[str]()
    return DataCard(
        name,
        len(train),
        tuple(LabelCount(label, counts[label]) for label in declared or folder.classes),
        share=task.share,
        input_shape=tuple(folder.shape),
        notes=folder.notes[:MAX_NOTES],
    )


class PicturesLocalTask:
    """The pictures of this device; the `LocalTask` of private pictures."""

    def __init__(
        self,
        folder: PictureFolder,
        train: Sequence[Picture],
        test: Sequence[Picture],
        card: DataCard,
        places: DataPlaces,
    ) -> None:
        self._root = folder.root
        self._pictures = (*train, *test)
        self._train = len(train)
        self._workers = places.loader_workers
        self.card = card

    @property
    def test_examples(self) -> int:
        """Number of held-out pictures."""
        return len(self._pictures) - self._train

    def prepare(self, spec: RunSpec, agreement: Agreement, device: torch.device, /) -> PreparedTask:
        """Map the class folders to the agreed classes by name; pictures are read when a job needs them."""
        task = spec.task
        assert isinstance(task, PicturesTask)
        shape = _shape(agreement.input_shape)
        numbers = {label: number for number, label in enumerate(agreement.classes)}
        if unknown := sorted({picture.label for picture in self._pictures} - set(numbers)):
            raise TaskError(
                f"This device has pictures of {', '.join(map(repr, unknown[:5]))}, which the run does not "
                "have; move the folder away, or found a run with this class."
            )
        dataset = PictureDataset(
            self._root,
            [picture.path for picture in self._pictures],
            [numbers[picture.label] for picture in self._pictures],
            shape,
        )
        store = PictureStore(dataset, self._train, device, self._workers)
        return PreparedTask(
            objective=Classification(agreement),
            build=lambda: MODELS[task.model](shape, len(agreement.classes)),
            train_part=lambda _: store.train_part(augment=task.augment),
            test_part=store.test_part,
            part_card=lambda _: self.card,
        )


def _shape(agreed: Sequence[int]) -> ImageShape:
    if len(agreed) != 3 or agreed[0] not in (1, 3) or min(agreed[1:]) < MIN_SIDE:
        raise TaskError(
            f"The run's pictures have the shape {list(agreed)}; expected 1 or 3 channels and at least "
            f"{MIN_SIDE} pixels on each side: choose a size with --image-size."
        )
    return ImageShape(*agreed)
