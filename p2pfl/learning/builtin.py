"""The built-in tasks as the worker uses them: one public data set, of which each member trains on a part."""

from __future__ import annotations

import torch
from torch import Tensor

from p2pfl.cards import Agreement, DataCard, LabelCount
from p2pfl.errors import TaskError
from p2pfl.learning import partition
from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.local_task import PreparedTask
from p2pfl.learning.objective import Classification
from p2pfl.learning.task import CatalogueTask, Data, load_task
from p2pfl.spec import BuiltinTask, RunSpec


def open_builtin(spec: RunSpec, places: DataPlaces) -> BuiltinLocalTask:
    """Read the data set of *spec*.

    Raises:
        TaskError: the task or its model is unknown, or its data are missing or damaged.
    """
    task = load_task(spec)
    assert isinstance(spec.task, BuiltinTask)
    return BuiltinLocalTask(spec.task.name, task, task.load(places))


class BuiltinLocalTask:
    """A task of the catalogue with its data set; the `LocalTask` of built-in tasks."""

    def __init__(self, name: str, task: CatalogueTask, data: Data) -> None:
        self._name = name
        self._task = task
        self._data = data
        self.card = self._card(data.train_y)

    @property
    def test_examples(self) -> int:
        """Number of examples of the test split."""
        return len(self._data.test_y)

    def prepare(self, spec: RunSpec, agreement: Agreement, device: torch.device, /) -> PreparedTask:
        """Divide the training split as *spec* says; the data are moved to *device* once."""
        load_task(spec)  # checks model and partition: the run may come from a peer
        task = spec.task
        assert isinstance(task, BuiltinTask)
        self._data = data = self._data.to(device)
        scheme, parts = partition.parse(task.partition), list[Tensor]()

        def rows(index: int) -> Tensor:
            if not 0 <= index < task.partitions:
                raise TaskError(
                    f"There is no partition {index}: the run has {task.partitions}, numbered from 0."
                )
            if not parts:
                divided = partition.divide(data.train_y.tolist(), scheme, task.partitions, spec.seed)
                parts.extend(torch.tensor(part, device=device) for part in divided)
            return parts[index]

        def test_rows(part: int, count: int) -> Tensor:
            # Every count-th example: so each part has all labels, even if the test split is sorted by label.
            if part >= len(data.test_y):
                raise TaskError(
                    f"The test split has {len(data.test_y)} examples, too few for {count} members."
                )
            return torch.arange(part, len(data.test_y), count, device=device)

        def test_batches(chosen: Tensor) -> TensorBatches:
            return TensorBatches(data.test_x, data.test_y, chosen, data.scaling)

        def own_test_part(part: int, count: int, index: int) -> TensorBatches:
            chosen, classes = (
                test_rows(part, count),
                torch.bincount(data.train_y[rows(index)]).nonzero().flatten(),
            )
            own = chosen[torch.isin(data.test_y[chosen], classes)]
            return test_batches(own if len(own) else chosen)

        return PreparedTask(
            objective=Classification(agreement),
            build=lambda: self._task.build(task.model),
            train_part=lambda index: TensorBatches(data.train_x, data.train_y, rows(index), data.scaling),
            test_part=lambda part, count: test_batches(test_rows(part, count)),
            part_card=lambda index: self._card(data.train_y[rows(index)]),
            own_test_part=own_test_part,
        )

    def _card(self, labels: Tensor) -> DataCard:
        """Return the number of examples, in all and of each label, for *labels* [examples] int64."""
        classes = self._data.classes
        counts = torch.bincount(labels.cpu(), minlength=len(classes)).tolist()
        named = tuple(LabelCount(name, count) for name, count in zip(classes, counts, strict=True))
        return DataCard(self._name, len(labels), named)
