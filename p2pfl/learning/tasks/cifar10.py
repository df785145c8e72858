"""The task `cifar10`: colour images of 32x32 pixels in ten classes.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009). The files are pickles, which can
execute any code when they are read. So torchvision reads them, and only after the checksum of each file has
shown that it is the published one.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from p2pfl.errors import TaskError
from p2pfl.learning.catalogue import CIFAR10
from p2pfl.learning.data import DataPlaces, DataSet
from p2pfl.learning.download import obtain
from p2pfl.learning.models import MODELS, ImageShape
from p2pfl.learning.task import CatalogueTask, Data, Scaling

SHAPE = ImageShape(3, 32, 32)

CLASSES = ("aeroplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "lorry")


class Cifar10:
    """The `p2pfl.learning.task.CatalogueTask` of CIFAR-10."""

    def load(self, places: DataPlaces, /) -> Data:
        """Read the files with torchvision; images stay uint8.

        Raises:
            TaskError: a file is missing, or is not the published one.
        """
        assert isinstance(CIFAR10.data, DataSet)
        assert CIFAR10.inputs is not None
        first = obtain(CIFAR10.name, CIFAR10.data, places)[0]
        root = first.parent.parent
        train_x, train_y = _read(root, train=True)
        test_x, test_y = _read(root, train=False)
        scaling = Scaling.normalising(CIFAR10.inputs.mean, CIFAR10.inputs.deviation)
        return Data(train_x, train_y, test_x, test_y, CLASSES, scaling)

    def build(self, model: str) -> nn.Module:
        """Return a freshly initialised *model* for these images and classes."""
        return MODELS[model](SHAPE, len(CLASSES))


def _read(root: Path, *, train: bool) -> tuple[Tensor, Tensor]:
    """Return the images [examples, 3, 32, 32] uint8 and the labels [examples] int64 of one split."""
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    # The constructor verifies checksums too. They are verified here so that no change elsewhere can ever let
    # files without a check be unpickled.
    torchvisions = datasets.CIFAR10
    folder = root / torchvisions.base_folder
    meta = (torchvisions.meta["filename"], torchvisions.meta["md5"])
    for name, checksum in (*torchvisions.train_list, *torchvisions.test_list, meta):
        if not check_integrity(folder / name, checksum):
            raise TaskError(
                f"{folder / name} is not the file that CIFAR-10's author published (its checksum differs), "
                "and is not read; delete the folder and use --download."
            )
    try:
        split = torchvisions(root, train=train)
    except (OSError, RuntimeError) as error:
        raise TaskError(
            f"CIFAR-10 in {folder} cannot be read ({error}); delete it and use --download."
        ) from error
    return torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets)


TASK: CatalogueTask = Cifar10()
