"""Aggregation: reads all updates of a round at the same time, piece by piece, and writes the new model.

This module opens and closes the files of a job (`p2pfl.learning.open_blobs`) and asks the strategy which
updates count. `p2pfl.learning.combining` computes the pieces. If the strategy has a state, it is read and
written beside the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import torch
from torch import Tensor

from p2pfl.errors import BlobError
from p2pfl.learning.combining import Pieces
from p2pfl.learning.open_blobs import (
    NotFiniteError,
    OpenBlobs,
    OpenParent,
    OpenState,
    OpenUpdate,
    Reader,
    UnreadableError,
    Writer,
)
from p2pfl.learning.products import inner_products
from p2pfl.learning.strategies import integers
from p2pfl.learning.strategies.checks import checked_choice
from p2pfl.learning.strategies.elementwise import Elementwise, UpdateTable
from p2pfl.learning.strategies.registry import OwnStrategies, strategy_of
from p2pfl.learning.weights import ModelFile, ModelWriter, runs
from p2pfl.schema import Schema, first_difference
from p2pfl.spec import ScriptTask, slot_schema
from p2pfl.strategy_specs import OwnStrategySpec
from p2pfl.work import (
    AggregatedModel,
    AggregationJob,
    AggregationResult,
    NotFinite,
    StrategyFailed,
    UnreadableUpdate,
    WeightedUpdate,
)

PIECE_ELEMENTS = 32_000
"""Elements of one update in a piece. They fit into a processor's cache, and torch uses a single thread below
32,768 elements. The memory bandwidth is the limit: a second thread doubles the processor time and saves a
fifth of the duration, or nothing on one core."""


def aggregate(
    job: AggregationJob,
    folder: Path,
    path: Path,
    state_path: Path | None = None,
    own: OwnStrategies | None = None,
) -> AggregationResult:
    """Do *job*, whose blobs are in *folder*; write the new model to *path*, not flushed.

    The new state of the strategy is written to *state_path*, which is needed only if it has one. There is no
    file at either path unless the result is an `AggregatedModel`. *own* makes a strategy of the user's own.

    Raises:
        BlobError: the parent or the state cannot be read, or there are too many examples for the mean of
            integers.
        WorkerError: a new file cannot be written.
    """
    with ExitStack() as opened:

        def write(schema: Schema, *, is_state: bool) -> Writer:
            target = state_path if is_state else path
            assert target is not None, "the strategy has a state, and there is no path for it"
            return opened.enter_context(ModelWriter(target, schema))

        result = aggregate_blobs(job, lambda digest: ModelFile(folder / digest), write, own)
    if not isinstance(result, AggregatedModel):
        for one in (path, state_path):
            if one is not None:
                with suppress(FileNotFoundError):
                    one.unlink()
    return result


def aggregate_blobs(
    job: AggregationJob,
    read: Callable[[str], Reader],
    write: Callable[..., Writer],
    own: OwnStrategies | None = None,
) -> AggregationResult:
    """Do *job*. *read* opens a blob; `write(schema, is_state=..)` begins the model or the state.

    *own* makes a strategy of the user's own, whose failure is a result too.

    Raises:
        BlobError: as in `aggregate`.
    """
    if not isinstance(job.spec.strategy, OwnStrategySpec):
        own = None
    with ExitStack() as opened:

        def open_update(update: WeightedUpdate, digest: str) -> OpenUpdate:
            one = OpenUpdate(update, digest, read)
            opened.callback(one.close)
            return one

        parent = OpenParent(lambda: read(job.parent))
        opened.callback(parent.close)
        try:
            strategy = strategy_of(job.spec) if own is None else own.make(job.spec)
            updates = [open_update(one, one.digest) for one in job.updates]
            schema = _common_schema(updates)
            if not strategy.takes_median:
                _refuse_too_many_examples(updates, schema)
            state = None
            if strategy.slots:
                slots = slot_schema(schema, strategy.slots)
                state = OpenState(
                    strategy, read(job.state) if job.state else None, write(slots, is_state=True)
                )
                opened.callback(state.close)
            table = _table(job, strategy, updates, parent, state)
            chosen = checked_choice(strategy.begin(table), len(updates))
            blobs = OpenBlobs(
                updates,
                [updates[index] for index in chosen],
                [open_update(job.updates[index], job.updates[index].control) for index in chosen]
                if job.updates[0].control
                else [],
                parent,
                state,
            )
            model = write(schema, is_state=False)
            for piece in Pieces(strategy, blobs, schema, PIECE_ELEMENTS):
                model.add(piece)
            return AggregatedModel(
                model.finish(durable=False), state.writer.finish(durable=False) if state is not None else ""
            )
        except NotFiniteError:
            return NotFinite() if own is None else StrategyFailed(own.explain_not_finite())
        except UnreadableError as error:
            return UnreadableUpdate(error.digest, str(error))
        except (Exception, SystemExit) as error:
            reason = own.explain(error) if own is not None else ""
            if not reason:
                raise
            return StrategyFailed(reason)


def _table(
    job: AggregationJob,
    strategy: Elementwise,
    updates: Sequence[OpenUpdate],
    parent: OpenParent,
    state: OpenState | None,
) -> UpdateTable:
    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    def products() -> Tensor:
        measured = state.reader if state is not None and strategy.measures_state else None
        found = inner_products(
            updates, parent.read, updates[0].schema, measured, slots=len(strategy.slots), piece=PIECE_ELEMENTS
        )
        if strategy.measures_state and measured is None:  # before the first aggregation the state is zero
            found = torch.nn.functional.pad(found, (0, 1, 0, 1))
        return found

    training, is_script = job.spec.training, isinstance(job.spec.task, ScriptTask)
    return UpdateTable(
        examples=column([one.examples for one in job.updates]),
        steps=column([one.steps for one in job.updates]),
        losses=column([one.loss for one in job.updates]),
        members=job.members,
        momentum=training.momentum if training.optimizer == "sgd" and not is_script else 0.0,
        learning_rate=training.learning_rate,
        products=products,
    )


def _common_schema(updates: Sequence[OpenUpdate]) -> Schema:
    """Return the schema of all *updates*.

    Raises:
        UnreadableError: the schema of one differs from that of the first.
    """
    schema = updates[0].schema
    for update in updates:
        difference = first_difference(schema, update.schema)
        if difference is not None:
            raise UnreadableError(update.digest, f"it does not fit the other updates: {difference}")
    return schema


def _refuse_too_many_examples(updates: Sequence[OpenUpdate], schema: Schema) -> None:
    """Refuse *updates* of *schema* with too many examples for the mean of integers.

    Raises:
        BlobError: there are too many.
    """
    examples = sum(update.examples for update in updates)
    if examples > integers.MAX_WEIGHT and any(_is_integer(run.dtype) for run in runs(schema)):
        raise BlobError(
            f"The updates have {examples} examples in all; a model with integers can be averaged over at "
            f"most {integers.MAX_WEIGHT}."
        )


def _is_integer(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype == torch.bool)
