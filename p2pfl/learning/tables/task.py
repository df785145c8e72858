"""The task of a private table: describes this device's rows, holds some out, and encodes them as agreed."""

from __future__ import annotations

import difflib
import logging

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pfl.cards import CLASSIFICATION, MAX_CATEGORIES, MAX_NOTES, REGRESSION, Agreement, DataCard, LabelCount
from p2pfl.errors import TaskError
from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.local_task import PreparedTask
from p2pfl.learning.objective import Classification, Objective, Regression
from p2pfl.learning.tables.encoding import Encoder, inputs_of, targets_of
from p2pfl.learning.tables.kinds import TargetColumn
from p2pfl.learning.tables.models import build_table_model
from p2pfl.learning.tables.row_keys import Keys, ranks
from p2pfl.learning.tables.rows import Table, Wanted, read_table
from p2pfl.spec import RunSpec, TableTask, task_name
from p2pfl.text import one_line

logger = logging.getLogger(__name__)

ENCODED_BYTES = 64 * 2**20
"""Inputs up to this size are encoded once. Those of a larger table are encoded batch by batch, so that memory
holds the table only once."""

MAX_TOLD_COLUMNS = 50
"""Columns in the log line about their kinds."""


def open_table(task: TableTask, seed: int, places: DataPlaces) -> TableLocalTask:
    """Read and describe the table of this device; *seed* determines which rows are held out.

    Raises:
        TaskError: there is no such file, it is no table, or it does not fit the task.
    """
    if task.share == "none":
        raise TaskError(
            "A run of tables needs the sums of the columns of all devices, so --share none is not possible: "
            "--share counts tells least."
        )
    if places.own is None:
        raise TaskError("The run is about a table of each device: name this device's with --data FILE.csv.")
    table = read_table(places.own, Wanted(task.target, task.target_kind))
    local = TableLocalTask(task, seed, table)
    logger.info("%s", _description(table, local.card))
    for note in local.card.notes:
        logger.info("%s: %s", places.own.name, note)
    return local


class TableLocalTask:
    """A table with its held-out rows; the `LocalTask` of tables."""

    def __init__(self, task: TableTask, seed: int, table: Table) -> None:
        assert table.target is not None
        self._task = task
        held_out = choose_held_out(table.target, ranks(table.keys, seed), task.holdout)
        self._features, self._target = table.features, table.target
        self._cells = torch.from_numpy(table.cells)  # the same memory
        self._train_rows = torch.from_numpy(np.flatnonzero(~held_out))
        self._test_rows = torch.from_numpy(np.flatnonzero(held_out))
        self.card = _card(task, table, table.target, held_out)

    @property
    def test_examples(self) -> int:
        """Number of rows that are held out."""
        return len(self._test_rows)

    def owners(self, column: str) -> list[int | str]:
        """Return the owner of each row to train on: its value of *column*, which stays an input of the model.

        Raises:
            TaskError: there is no such column, or a row has no value of it.
        """
        place = next((at for at, one in enumerate(self._features) if one.card.name == column), None)
        if place is None:
            raise TaskError(self._no_owners(column))
        categories = self._features[place].card.categories
        values = self._cells[self._train_rows, place]
        if values.isnan().any() or (categories and int(values.max()) >= len(categories)):
            raise TaskError(
                f"Not every row has an owner in the column {one_line(column, 60)!r}, or there are more than "
                f"{MAX_CATEGORIES} of them as texts; complete it, or number the owners."
            )
        if not categories:
            return [str(value) for value in values.tolist()]
        return [categories[int(value)] for value in values.tolist()]

    def _no_owners(self, column: str) -> str:
        """Return why *column* cannot name the owner of each row."""
        written = one_line(column, 60)
        if column == self._task.target:
            return f"The column {written!r} is the target, and cannot name the owners of rows; use another."
        names = [one.card.name for one in self._features]
        near = difflib.get_close_matches(column, names, 1)
        told = ", ".join(one_line(name, 40) for name in names[:MAX_TOLD_COLUMNS])
        hint = f"did you mean {one_line(near[0], 60)!r}?" if near else f"its columns are: {told}."
        return f"The table has no column {written!r} that names the owner of each row; {hint}"

    def prepare(self, spec: RunSpec, agreement: Agreement, device: torch.device, /) -> PreparedTask:
        """Return the task with its rows encoded as agreed; the table is moved to *device* once."""
        task = spec.task
        assert isinstance(task, TableTask)
        build_table_model(task.model, agreement)  # refuses an unknown name before any training
        self._cells = self._cells.to(device)
        targets = targets_of(agreement, self._target).to(device)
        encoder = Encoder(agreement, self._features, device)
        is_small = 4 * len(self._cells) * inputs_of(agreement) <= ENCODED_BYTES
        inputs = encoder(self._cells) if is_small else self._cells
        scaling = None if is_small else encoder

        def part(rows: Tensor) -> TensorBatches:
            return TensorBatches(inputs, targets, rows.to(device), scaling)

        def train_part(index: int) -> TensorBatches:
            if index:
                raise TaskError(f"There is no partition {index} of a table that is this device's own.")
            return part(self._train_rows)

        return PreparedTask(
            objective=_objective(agreement),
            build=lambda: build_table_model(task.model, agreement),
            train_part=train_part,
            test_part=lambda index, count: part(self._test_rows[index::count]),
            part_card=lambda _: self.card,
        )


def _objective(agreement: Agreement) -> Objective:
    assert agreement.target is not None
    if agreement.target.kind == "number":
        return Regression(agreement.target.deviation)
    return Classification(agreement)


def choose_held_out(target: TargetColumn, ranked: Keys, share: float) -> NDArray[np.bool_]:
    """Return which rows are held out: at least one, at most all but one, about *share* of them.

    Each class gives its share, and the classes with the largest remainders one row more. Of a class, or of
    all rows where the target is a number, those that are *ranked* first are held out. Since a rank follows
    from the content of a row, most of the same rows are held out when the table gets more of them.

    Raises:
        TaskError: there is one row only.
    """
    rows = len(ranked)
    if rows < 2:
        raise TaskError(
            f"The table has {rows} row with a target, and at least 2 are needed: one to train on and one "
            "to hold out."
        )
    count = min(max(1, round(share * rows)), rows - 1)
    classes = np.zeros(rows, np.uint8) if target.classes is None else target.classes
    sizes = np.bincount(classes)
    shares = sizes * (count / rows)
    counts = np.floor(shares).astype(np.int64)
    largest = np.argsort(counts - shares, kind="stable")  # remainders, the largest first
    counts[largest[: count - counts.sum()]] += 1
    held_out = np.zeros(rows, bool)
    for index in range(len(sizes)):
        members = np.flatnonzero(classes == index)
        held_out[members[np.argsort(ranked[members], kind="stable")[: counts[index]]]] = True
    return held_out


def _card(task: TableTask, table: Table, target: TargetColumn, held_out: NDArray[np.bool_]) -> DataCard:
    labels: tuple[LabelCount, ...] = ()
    if target.classes is not None:
        names = target.card.categories
        counts = np.bincount(target.classes[~held_out], minlength=len(names)).tolist()
        is_told = task.share == "labels"
        labels = tuple(
            LabelCount(name, count if is_told else 0) for name, count in zip(names, counts, strict=True)
        )
    told = target.card
    if labels and task.share == "counts":
        # The mean of a class that is written as 0 or 1 is the share of its examples.
        told = msgspec.structs.replace(told, mean=0.0, spread=0.0, values=0)
    return DataCard(
        task_name(task),
        int((~held_out).sum()),
        labels,
        CLASSIFICATION if labels else REGRESSION,
        task.share,
        columns=tuple(feature.card for feature in table.features),
        target=told,
        notes=_limited(table.notes),
    )


def _limited(notes: tuple[str, ...]) -> tuple[str, ...]:
    kept = [one_line(note, 300) for note in notes]
    if len(kept) > MAX_NOTES:
        kept = [*kept[: MAX_NOTES - 1], f"and {len(kept) - MAX_NOTES + 1} more"]
    return tuple(kept)


def _description(table: Table, card: DataCard) -> str:
    """Return how many rows and which kinds of columns there are."""
    assert card.target is not None
    told = [
        f"{one_line(column.name, 60)}: "
        + (f"category ({len(column.categories)})" if column.kind == "category" else "number")
        for column in card.columns[:MAX_TOLD_COLUMNS]
    ]
    if len(card.columns) > MAX_TOLD_COLUMNS:
        told.append(f"and {len(card.columns) - MAX_TOLD_COLUMNS} more")
    kind = f"class ({len(card.labels)})" if card.labels else "number"
    target = f"target {one_line(card.target.name, 60)}: {kind}"
    return f"{len(table.cells)} rows; column {'; '.join(told)}; {target}"
