"""A strategy of the user's own on this device: loads its class, tries it, and says where it failed.

The class is a copy of each device; names must be equal on all of them. Loading is separate from
`p2pfl.learning.own.strategy_file`, which the node process uses and which executes nothing.
"""

from __future__ import annotations

import inspect
import tempfile
import threading
from pathlib import Path
from typing import Any

import msgspec
import torch
from blake3 import blake3
from torch import nn

from p2pfl.errors import P2pflError, TaskError
from p2pfl.learning import weights
from p2pfl.learning.aggregation import aggregate
from p2pfl.learning.own.code import (
    a,
    describe_error,
    find_place,
    is_lack_of_memory,
    load_file,
    place_of,
)
from p2pfl.learning.own.strategy_file import split_code
from p2pfl.learning.strategies.checks import StrategyError
from p2pfl.learning.strategies.elementwise import Elementwise
from p2pfl.messages import Ballot
from p2pfl.spec import RunSpec
from p2pfl.strategy_specs import OwnStrategySpec
from p2pfl.work import AggregatedModel, AggregationJob, StrategyFailed, WeightedUpdate

TRIED_UPDATES = 4
"""Number of updates of a trial, unless the strategy needs more."""


class OwnStrategy:
    """The class of `--strategy FILE:CLASS`, of which each aggregation gets a new object. Thread-safe."""

    def __init__(self, code: str) -> None:
        """*code* is the absolute path of the file, a colon and the class; empty if there is none."""
        self._code = code
        self._lock = threading.Lock()
        self._loaded: tuple[type[Elementwise], str] | None = None
        """The class, and the digest of its source."""

    @property
    def _file(self) -> Path:
        return split_code(self._code)[0]

    def make(self, spec: RunSpec) -> Elementwise:
        """Return a new object of the class that *spec* names.

        Raises:
            TaskError: this device has no such class, or its `__init__` fails.
        """
        strategy = spec.strategy
        assert isinstance(strategy, OwnStrategySpec)
        kind, _ = self._class(strategy)
        try:
            return kind(**strategy.options)
        except (Exception, SystemExit) as error:
            if is_lack_of_memory(error):
                raise
            where = find_place(error, self._file) or place_of(kind, kind.__name__, self._file)
            raise TaskError(f"{where}: {describe_error(error)}") from error

    def check(self, spec: RunSpec) -> str:
        """Load the class of *spec* and aggregate a few small updates with it; return its source's digest.

        Raises:
            TaskError: this device has no such class, or it fails; the message has file and line.
        """
        strategy = spec.strategy
        assert isinstance(strategy, OwnStrategySpec)
        loaded, source = self._class(strategy)
        for name, here, there in (
            ("least_updates", loaded.least_updates, strategy.least),
            ("slots", tuple(loaded.slots), strategy.slots),
        ):
            if here != there:
                raise TaskError(
                    f"{self._file.name}: {name} of {loaded.__name__} is {here} here and {there} in the run; "
                    "use the same file on all devices, in which it is a literal."
                )
        with tempfile.TemporaryDirectory(prefix="p2pfl-strategy-") as folder:
            failure = self._try(spec, Path(folder), strategy)
        if failure:
            raise TaskError(failure)
        return source

    def explain(self, error: BaseException) -> str:
        """Return why the strategy failed, with its place in the user's file; empty if it is not its fault."""
        if isinstance(error, P2pflError) or is_lack_of_memory(error):
            return ""
        if isinstance(error, StrategyError):
            return f"{self._place(error.function)}: {error.what}"
        where = find_place(error, self._file)
        return f"{where}: {describe_error(error)}" if where else ""

    def explain_not_finite(self) -> str:
        """Return the sentence on a result that is not finite."""
        return f"{self._place('combine')}: returned a number that is not finite (NaN or infinity)"

    def _place(self, function: str) -> str:
        assert self._loaded is not None
        return place_of(getattr(self._loaded[0], function), function, self._file)

    def _class(self, strategy: OwnStrategySpec) -> tuple[type[Elementwise], str]:
        if not self._code:
            raise TaskError(
                f"The run aggregates with the class {strategy.name!r} of a file, and this device was not "
                "given one; use --strategy FILE.py:CLASS."
            )
        file, name = split_code(self._code)
        if strategy.name != f"{file.name}:{name}":
            raise TaskError(
                f"The run aggregates with the class {strategy.name!r}, and this device was started with "
                f"{file.name}:{name}; use the same --strategy on all devices."
            )
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(file, name)
            return self._loaded

    def _try(self, spec: RunSpec, folder: Path, strategy: OwnStrategySpec) -> str:
        """Aggregate small models twice, the second time with the state of the first; say what failed."""
        parent, *updates = (
            _small_model(folder, seed) for seed in range(max(strategy.least, TRIED_UPDATES) + 1)
        )
        weighted = tuple(WeightedUpdate(digest, examples=10) for digest in updates)
        job = AggregationJob("trial", 1, Ballot(1, "0" * 64), spec, parent, weighted, members=len(weighted))
        for number in range(2 if strategy.slots else 1):
            path, state_path = folder / f"new{number}", folder / f"state{number}"
            result = aggregate(job, folder, path, state_path, own=self)
            if isinstance(result, StrategyFailed):
                return result.reason
            assert isinstance(result, AggregatedModel), result
            if strategy.slots:
                state_path.rename(folder / result.state)
                job = msgspec.structs.replace(job, state=result.state)
        return ""


def _load(file: Path, name: str) -> tuple[type[Elementwise], str]:
    """Return the class *name* of *file*, and the digest of the source."""
    if not file.is_file():
        raise TaskError(f"The file {file} of the strategy does not exist; put it there again.")
    source = blake3(file.read_bytes()).hexdigest()[:16]
    found: Any = getattr(load_file(file, "strategy"), name, None)
    if not (isinstance(found, type) and issubclass(found, Elementwise)):
        what = "there is no such class" if found is None else f"it is {a(found)}"
        raise TaskError(
            f"{file.name}: {name} must be a class that derives from p2pfl.Elementwise, and {what}."
        )
    if inspect.isabstract(found):
        raise TaskError(
            f"{file.name}: {name} does not define combine(self, parent, updates, weights, state), which "
            "returns the new elements and the new state."
        )
    return found, source


def _small_model(folder: Path, seed: int) -> str:
    """Write a model of a few parameters to *folder*; return its digest, which is the name of its file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.Linear(3, 2)
    digest = weights.save(folder / "new", module, durable=False)
    (folder / "new").rename(folder / digest)
    return digest
