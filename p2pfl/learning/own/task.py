"""The user's file as the worker uses it: the `LocalTask` of a model and data of the user's own.

Before a run is founded, the model is built once for the data of this device alone, and a few examples pass
through it: so a mistake in the file is found on the device that has it, before the first round.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, cast

import msgspec
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from p2pfl.agreement import merge_cards
from p2pfl.cards import MAX_CLASSES, MAX_NOTES, Agreement, DataCard, LabelCount, Measures
from p2pfl.errors import TaskError
from p2pfl.learning.batches import Batches
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.local_task import PreparedTask
from p2pfl.learning.own.code import UserCode, a, load_user_code, takes
from p2pfl.learning.own.data import (
    BatchMaker,
    UserData,
    divide_data,
    input_shape,
    make_loader,
    read_data,
    renamed,
)
from p2pfl.learning.own.interface import Agreed
from p2pfl.learning.own.loops import UserLoops
from p2pfl.learning.own.objective import (
    Kind,
    UserObjective,
    checked_metrics,
    loss_name,
    probe,
    with_primary,
)
from p2pfl.learning.training import AfterBatch
from p2pfl.spec import FileTask, LocalTraining, RunSpec

MAX_NOTE = 300
"""Maximum number of characters of a note (`p2pfl.cards.Note`)."""

PROBED = 32
"""Number of examples that pass through the model before a run; some metrics need several classes."""

CPU = torch.device("cpu")


def open_file(task: FileTask, seed: int, places: DataPlaces) -> FileLocalTask:
    """Load the user's file and data, and describe them.

    Raises:
        TaskError: a function is missing, fails, or returns what it must not; with its place.
    """
    code = load_user_code(places.code)
    data = read_data(code, places.own, places.classes, task.holdout, seed)
    return FileLocalTask(task, code, data, places)


class FileLocalTask:
    """A user's file with the data of this device; the `LocalTask` of `FileTask`."""

    def __init__(self, task: FileTask, code: UserCode, data: UserData, places: DataPlaces) -> None:
        self._task = task
        self._code = code
        self._data = data
        self._places = places
        if len(data.classes) > MAX_CLASSES:
            raise code.wrong("data", f"has {len(data.classes)} classes; at most {MAX_CLASSES} are possible")
        self._check_share()
        self._kind, self.card = self._describe()

    @property
    def test_examples(self) -> int:
        """Number of held-out examples; 1 if this device shares nothing."""
        return _length(self._data.test) if self._task.share != "none" else 1

    def prepare(
        self,
        spec: RunSpec,
        agreement: Agreement,
        device: torch.device,
        /,
    ) -> PreparedTask:
        """Return the task with its targets as indices of the agreed classes."""
        mapping = renamed(self._data, agreement.classes, self._code)
        objective = UserObjective(self._code, self._kind, agreement.measures.without_personal(), agreement)
        if spec.training.class_weights:
            objective.check_weighted()
        workers = self._places.loader_workers
        maker = BatchMaker(self._code, mapping, device, workers)
        made: dict[str, Batches] = {}
        task = spec.task
        assert isinstance(task, FileTask)
        divided = divide_data(self._data, task, spec.seed)

        def part(name: str, dataset: Dataset[Any], labels: Tensor | None) -> Batches:
            if name not in made:
                made[name] = maker.make(dataset, labels)
            return made[name]

        def train_part(index: int) -> Batches:
            return part(f"train {index}", divided(index).train, divided(index).targets)

        def test_part(index: int, parts: int) -> Batches:
            rows = range(index, _length(self._data.test), parts)
            test: Dataset[Any] = self._data.test if parts == 1 else Subset(self._data.test, list(rows))
            return part(f"test {index} of {parts}", test, None)

        def own_test_part(index: int, parts: int, like: int) -> Batches:
            held_out, own = test_part(index, parts), train_part(like).labels
            if held_out.labels is None or own is None:
                return held_out
            rows = range(index, _length(self._data.test), parts)
            chosen = [rows[place] for place in torch.isin(held_out.labels, own).nonzero().flatten().tolist()]
            name = f"test {index} of {parts} like {like}"
            return part(name, Subset(self._data.test, chosen), None) if chosen else held_out

        def train(
            module: nn.Module, index: int, options: LocalTraining, round_: int, seed: int, after: AfterBatch
        ) -> tuple[int, float]:
            loops = UserLoops(self._code, divided(index), mapping, device, workers)
            return loops.train(module, options, round_, seed, after)

        loops = UserLoops(self._code, self._data, mapping, device, workers)
        own = self._code.task
        return PreparedTask(
            objective=objective,
            build=lambda: self._build(agreement),
            train_part=train_part,
            test_part=test_part,
            part_card=lambda index: self._part_card(divided(index)),
            own_test_part=own_test_part if task.partition else None,
            train=train if own.train is not None else None,
            evaluate=loops.evaluate if own.evaluate is not None else None,
            optimizer=loops.optimizer if own.optimizer is not None else None,
        )

    # --- the description ------------------------------------------------------------------------------------

    def _describe(self) -> tuple[Kind, DataCard]:
        """Return what the targets are, and the card of this device."""
        shape = input_shape(self._code, self._data.train)
        card = DataCard(
            self._task.name,
            _length(self._data.train) if self._task.share != "none" else 1,
            self._labels(),
            share=self._task.share,
            input_shape=shape,
            source=self._code.digest,
        )
        alone = DataCard(
            card.task,
            card.examples,
            tuple(LabelCount(name, 0) for name in self._data.declared or self._data.classes),
            share=card.share,
            input_shape=shape,
        )
        agreement, flaw = merge_cards(self._task, {"this device": alone})
        if agreement is None:
            raise TaskError(f"{self._code.file.name}: {flaw}.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            kind, measures = self._probe(agreement)
        notes = [*(note[:MAX_NOTE] for note in self._code.warnings), *self._notes()]
        return kind, msgspec.structs.replace(card, measures=measures, notes=tuple(notes[:MAX_NOTES]))

    def _probe(self, agreement: Agreement) -> tuple[Kind, Measures]:
        """Pass some examples through the model; return what the targets are, and what is measured."""
        code = self._code
        count = _length(self._data.train)
        chosen = sorted({index * count // PROBED for index in range(PROBED)})
        some: Dataset[Any] = Subset(self._data.train, chosen)
        module = self._build(agreement)
        module.eval()
        if code.task.evaluate is None:
            return probe(code, module, BatchMaker(code, None, CPU).make(some), agreement)
        loader = make_loader(code, some, None, PROBED)
        with torch.no_grad(), code.calling("evaluate"):
            values = code.task.evaluate(module, loader)
        names = tuple(sorted(checked_metrics(code, "evaluate", values)))
        if code.task.train is not None:
            return "other", with_primary(code, loss_name(code, "other"), names, counts_classes=False)
        kind, _ = probe(code, module, BatchMaker(code, None, CPU).make(some), agreement)
        return kind, with_primary(code, loss_name(code, kind), names, counts_classes=False)

    def _part_card(self, part: UserData) -> DataCard:
        """Return the card of a partition of the training examples."""
        if part is self._data or self._task.share == "none":
            return self.card
        return msgspec.structs.replace(self.card, examples=_length(part.train), labels=self._labels(part))

    def _labels(self, part: UserData | None = None) -> tuple[LabelCount, ...]:
        """Return the classes that this device tells, with the numbers of examples that it tells."""
        data = part or self._data
        counts = dict.fromkeys(data.declared or data.classes, 0)
        if self._task.share == "none" and not data.declared:
            return ()
        if self._task.share == "labels" and data.targets is not None:
            counted = torch.bincount(data.targets, minlength=len(data.classes)).tolist()
            counts |= dict(zip(data.classes, counted, strict=False))
        return tuple(LabelCount(name, count) for name, count in counts.items())

    def _notes(self) -> tuple[str, ...]:
        """Return what is unusual about the data, unless that would tell more than is shared."""
        data = self._data
        if self._task.share != "labels" or data.targets is None or len(data.classes) < 2:
            return ()
        found = sorted({*data.targets.tolist()})
        if len(found) != 1:
            return ()
        return (f"all its examples are of the class {data.classes[found[0]]!r}",)

    def _check_share(self) -> None:
        """Refuse to share nothing where the classes would have to be shared."""
        data = self._data
        is_named = bool(data.classes) and any(name != str(index) for index, name in enumerate(data.classes))
        if self._task.share == "none" and is_named and not data.declared:
            raise self._code.wrong(
                "data",
                "returned a data set with named classes, which --share none does not tell; write the classes "
                'of all devices into the file: classes = ["cat", "dog"]',
            )

    # --- the model ------------------------------------------------------------------------------------------

    def _build(self, agreement: Agreement) -> nn.Module:
        """Return a freshly initialised model on the CPU; torch's default generator is seeded."""
        return build_user_model(self._code, agreement)


def build_user_model(code: UserCode, agreement: Agreement) -> nn.Module:
    """Return the model of the user's task *code* for the data of *agreement*, freshly initialised on the CPU.

    Raises:
        TaskError: the user's function fails, or returns no model that can be trained.
    """
    hook = code.task.model
    with code.calling("model"):
        module = hook(Agreed.of(agreement)) if takes(hook, "agreed") else hook()
    if not isinstance(module, nn.Module):
        raise code.wrong("model", f"returned {a(module)}; return a torch.nn.Module")
    if any(isinstance(one, nn.parameter.UninitializedParameter) for one in module.parameters()):
        raise code.wrong(
            "model", "returned a model with lazy layers, whose sizes are not known yet; give the sizes"
        )
    if not any(one.requires_grad for one in module.parameters()):
        raise code.wrong("model", "returned a model without parameters that train")
    return module


def _length(dataset: Dataset[Any]) -> int:
    return len(cast(Sized, dataset))
