"""CIFAR-10: small colour pictures of ten kinds of things (Krizhevsky, 2009).

Its files are pickles, which can run any code when they are read. They are therefore read by torchvision, and
only when each is, by its checksum, the file their author published.
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
from p2pfl.learning.task import Data, Scaling, Task

SHAPE = ImageShape(3, 32, 32)

MEAN = (0.4914, 0.4822, 0.4465)
"""Of all training pixels, a channel, as a share of the brightest."""

DEVIATION = (0.2470, 0.2435, 0.2616)
"""Their standard deviation."""

CLASSES = ("aeroplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "lorry")


class Cifar10:
    """See `p2pfl.learning.task.Task`."""

    def load(self, places: DataPlaces, /) -> Data:
        """Read the batches through torchvision; pixels stay bytes.

        Raises:
            TaskError: a file is missing or is not the published one.
        """
        assert isinstance(CIFAR10.data, DataSet)
        first = obtain(CIFAR10.name, CIFAR10.data, places)[0]
        root = first.parent.parent
        train_x, train_y = _read(root, train=True)
        test_x, test_y = _read(root, train=False)
        return Data(train_x, train_y, test_x, test_y, CLASSES, Scaling.normalising(MEAN, DEVIATION))

    def build(self, model: str) -> nn.Module:
        """Return *model* for these images."""
        return MODELS[model](SHAPE, len(CLASSES))


def _read(root: Path, *, train: bool) -> tuple[Tensor, Tensor]:
    """Return the images [samples, 3, 32, 32] uint8 and the labels [samples] int64 of one split."""
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    # Here, and not only in torchvision's constructor: what follows unpickles, so nothing may ever come
    # between the checksums and it that would leave them out.
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


TASK: Task = Cifar10()
