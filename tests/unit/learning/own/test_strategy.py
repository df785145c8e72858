from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

import p2pfl.examples
from p2pfl.errors import TaskError
from p2pfl.learning import commands, weights
from p2pfl.learning.aggregation import aggregate
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.jobs import Jobs
from p2pfl.learning.own import templates
from p2pfl.learning.own.strategy import OwnStrategy
from p2pfl.learning.strategy_choice import choose_strategy
from p2pfl.spec import RunSpec
from p2pfl.strategy_specs import OwnStrategySpec
from p2pfl.work import (
    AggregatedModel,
    AggregationJob,
    AggregationResult,
    EvaluationJob,
    StrategyFailed,
    TrainingJob,
    WeightedUpdate,
)
from tests.support.core import ballot
from tests.support.learning import make_spec
from tests.support.records import AGREEMENT
from tests.support.source import ROOT
from tests.support.user_tasks import MEDIAN, write_task

STEPS = """
import p2pfl

class Steps(p2pfl.Elementwise):
    slots = ("last", "count")
    initial = (0.0, 5.0)

    def __init__(self, factor=1.0):
        self.factor = factor

    def combine(self, parent, updates, weights, state):
        change = self.factor * (sum(updates) - parent)
        state = state.clone()
        state[0] = change
        state[1] += 1
        return parent + change, state
"""


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no module of a test behind."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("p2pfl_strategy_"):
            del sys.modules[name]


class Bench:
    """Aggregates models of one layer, with the class *name* of a file."""

    def __init__(self, folder: Path, code: Path, name: str, *arguments: str) -> None:
        choice = choose_strategy(f"{code}:{name}", arguments)
        self.own = OwnStrategy(choice.code)
        self.spec = make_spec(**choice.options)
        self.folder = folder
        self.parent = self.model(0.0)

    def model(self, value: float) -> str:
        module = nn.Linear(2, 1)
        for parameter in module.parameters():
            nn.init.constant_(parameter, value)
        digest = weights.save(self.folder / "new", module)
        (self.folder / "new").rename(self.folder / digest)
        return digest

    def aggregate(self, *values: float, state: str = "") -> AggregationResult:
        updates = tuple(WeightedUpdate(self.model(value), 10) for value in values)
        job = AggregationJob("run", 1, ballot(1, "ada"), self.spec, self.parent, updates, state, len(updates))
        return aggregate(job, self.folder, self.folder / "mean", self.folder / "state", self.own)

    def bias(self, result: AggregationResult) -> float:
        """Return the bias of the new model."""
        assert isinstance(result, AggregatedModel), result
        module = nn.Linear(2, 1)
        weights.load_into(self.folder / "mean", module)
        return module.bias.item()


def bench(folder: Path, source: str, name: str = "Bad", *arguments: str) -> Bench:
    return Bench(folder, write_task(folder, source), name, *arguments)


def bad(body: str, more: str = "") -> str:
    """Return the source of a class whose `combine` has *body* in line 5."""
    head = f"import torch, p2pfl\nclass Bad(p2pfl.Elementwise):\n    {more or 'pass'}\n"
    return f"{head}    def combine(self, parent, updates, weights, state):\n        {body}\n"


def refusal(one: Bench) -> str:
    with pytest.raises(TaskError) as told:
        one.own.check(one.spec)
    return str(told.value)


def test_a_class_of_ten_lines_aggregates(tmp_path: Path) -> None:
    one = bench(tmp_path, MEDIAN, "Median")
    assert one.bias(one.aggregate(1.0, 2.0, 100.0)) == 2.0
    assert len(one.own.check(one.spec)) == 16


def test_arguments_and_state_are_used(tmp_path: Path) -> None:
    one = bench(tmp_path, STEPS, "Steps", "factor=0.5")
    one.own.check(one.spec)
    first = one.aggregate(1.0, 3.0)
    assert one.bias(first) == 2.0
    assert isinstance(first, AggregatedModel)
    (tmp_path / "state").rename(tmp_path / first.state)
    second = one.aggregate(1.0, 3.0, state=first.state)
    assert isinstance(second, AggregatedModel)
    with weights.ModelFile(tmp_path / "state") as file:
        values = torch.empty(3, 2)
        file.fill(weights.bytes_of(values))
    assert values.tolist() == [[2.0, 7.0]] * 3


def test_the_source_of_a_file_is_compared_byte_by_byte(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = bench(tmp_path, MEDIAN, "Median")
    other = Bench(tmp_path, write_task(tmp_path / "other", MEDIAN + "\n"), "Median")
    assert one.spec == other.spec
    assert one.own.check(one.spec) != other.own.check(other.spec)


WRONG = [
    (bad("raise ValueError('no')"), "mine.py, line 5, in combine(): ValueError: no"),
    (bad("return 1 / 0, state"), "mine.py, line 5, in combine(): ZeroDivisionError: division by zero"),
    (bad("raise SystemExit('stop')"), "mine.py, line 5, in combine(): SystemExit: stop"),
    (bad("return sum(updates)"), "mine.py, line 4, in combine(): returned ["),
    (bad("return sum(updates).sum(), state"), "mine.py, line 4, in combine(): returned values of []"),
    (bad("return parent, state"), "mine.py, line 4, in combine(): must read all updates"),
    (
        bad("return sum(updates) + sum(updates), state"),
        "mine.py, line 5, in combine(): RuntimeError: The upd",
    ),
    (bad("return sum(updates) * float('nan'), state"), "line 4, in combine(): returned a number that is not"),
    (
        bad("return sum(updates), None", "slots = ('a',)"),
        "mine.py, line 4, in combine(): returned a state of",
    ),
    (bad("pass", "def begin(self, table): return []"), "mine.py, line 3, in begin(): returned []"),
    (bad("pass", "def begin(self, table): return table.x"), "mine.py, line 3, in begin(): AttributeError"),
]


@pytest.mark.parametrize(("source", "words"), WRONG)
def test_a_class_that_fails_is_told_with_file_and_line_before_the_run(
    tmp_path: Path, source: str, words: str
) -> None:
    assert words in refusal(bench(tmp_path, source))


@pytest.mark.parametrize(("source", "words"), WRONG)
def test_a_class_that_fails_in_a_round_is_a_result_and_leaves_no_file(
    tmp_path: Path, source: str, words: str
) -> None:
    one = bench(tmp_path, source)
    result = one.aggregate(1.0, 2.0)
    assert isinstance(result, StrategyFailed)
    assert words in result.reason
    assert not (tmp_path / "mean").exists()
    assert not (tmp_path / "state").exists()


def test_a_lack_of_memory_is_no_fault_of_the_class(tmp_path: Path) -> None:
    one = bench(tmp_path, bad("raise MemoryError"))
    with pytest.raises(MemoryError):
        one.aggregate(1.0)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("class Bad: pass", "Bad must be a class that derives from p2pfl.Elementwise, and it is a type"),
        ("import p2pfl\nclass Bad(p2pfl.Elementwise): pass", "Bad does not define combine(self, parent,"),
        (
            bad("pass", "def __init__(self): self.x = y"),
            "mine.py, line 3, in __init__(): NameError: name 'y'",
        ),
        ("class Bad: pass\nraise ValueError('no')", "mine.py, line 2: ValueError: no"),
        (
            bad("return sum(updates), state") + "Bad.least_updates = 2\n",
            "least_updates of Bad is 2 here and 1 in",
        ),
    ],
)
def test_a_class_that_cannot_be_used_is_told_before_the_run(tmp_path: Path, source: str, words: str) -> None:
    assert words in refusal(bench(tmp_path, source))


def test_a_device_without_the_class_is_told_so(tmp_path: Path) -> None:
    one = bench(tmp_path, MEDIAN, "Median")
    with pytest.raises(
        TaskError, match=r"'mine.py:Median' of a file, and this device was not given one; use"
    ):
        OwnStrategy("").check(one.spec)
    with pytest.raises(
        TaskError, match=r"'mine.py:Median', and this device was started with other.py:Median"
    ):
        OwnStrategy(f"{tmp_path}/other.py:Median").check(one.spec)
    (tmp_path / "mine.py").unlink()
    with pytest.raises(TaskError, match=r"The file .*mine\.py of the strategy does not exist"):
        OwnStrategy(f"{tmp_path}/mine.py:Median").check(one.spec)


# --- in the worker ------------------------------------------------------------------------------------------


def describe(jobs: Jobs, spec: RunSpec) -> commands.DescribeDone:
    answer = jobs.do(commands.DescribeJob(1, spec), print, lambda: False)
    assert isinstance(answer, commands.DescribeDone)
    return answer


def test_a_data_card_tells_the_digest_of_the_strategys_source(tmp_path: Path) -> None:
    one = bench(tmp_path, MEDIAN, "Median")
    jobs = Jobs("cpu", places=DataPlaces(strategy=f"{tmp_path}/mine.py:Median"))
    assert describe(jobs, one.spec).card.strategy_source == one.own.check(one.spec)
    assert describe(jobs, make_spec()).card.strategy_source == ""
    checked = jobs.do(commands.CheckStrategy(2, one.spec), print, lambda: False)
    assert checked == commands.StrategyChecked(2, one.own.check(one.spec))
    with pytest.raises(TaskError, match="this device was not given one"):
        describe(Jobs("cpu"), one.spec)


def test_the_strategy_of_the_readme_aggregates(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [source] = [
        block for block in re.findall("```python\n(.*?)```", text, re.DOTALL) if "Elementwise" in block
    ]
    one = Bench(tmp_path, write_task(tmp_path, source), "Median")
    one.own.check(one.spec)
    assert (one.spec.strategy, one.bias(one.aggregate(1.0, 2.0, 100.0))) == (
        OwnStrategySpec("mine.py:Median", 3),
        2.0,
    )


TEMPLATE = Path(templates.__file__).parent / "strategy.py"
EXAMPLE = Path(p2pfl.examples.__file__).parent / "own_strategy.py"


@pytest.mark.parametrize(
    ("code", "name", "argument"), [(TEMPLATE, "Careful", "step=0.5"), (EXAMPLE, "Smooth", "decay=0.5")]
)
def test_a_run_with_the_template_and_with_the_example_learns(
    tmp_path: Path, code: Path, name: str, argument: str
) -> None:
    choice = choose_strategy(f"{code}:{name}", [argument])
    spec = make_spec(**choice.options, partitions=3)
    jobs = Jobs("cpu", places=DataPlaces(strategy=choice.code))
    agreement = msgspec.structs.replace(AGREEMENT, examples=1437)
    path, state_path = tmp_path / "new", tmp_path / "state"

    def do(command: commands.Command) -> commands.Answer:
        return jobs.do(command, lambda _: None, lambda: False)

    created = do(commands.CreateJob(1, spec, agreement, str(path)))
    assert isinstance(created, commands.CreateDone)
    model, state, accuracies = created.digest, "", []
    path.rename(tmp_path / model)
    for number in range(1, 5):
        updates = []
        for part in range(3):
            training = TrainingJob("run", number, spec, agreement, model, part)
            trained = do(commands.RunTraining(2, training, str(tmp_path), str(path)))
            assert isinstance(trained, commands.TrainingDone)
            path.rename(tmp_path / trained.result.digest)
            updates.append(WeightedUpdate(trained.result.digest, trained.result.part.examples))
        job = AggregationJob("run", number, ballot(1, "ada"), spec, model, tuple(updates), state, 3)
        done = do(commands.RunAggregation(3, job, str(tmp_path), str(path), str(state_path)))
        assert isinstance(done, commands.AggregationDone)
        assert isinstance(done.result, AggregatedModel), done.result
        model, state = done.result.digest, done.result.state
        path.rename(tmp_path / model)
        if state:
            state_path.rename(tmp_path / state)
        judged = EvaluationJob("run", number, spec, agreement, model, 0, 1)
        evaluated = do(commands.RunEvaluation(4, judged, str(tmp_path)))
        assert isinstance(evaluated, commands.EvaluationDone)
        accuracies.append(evaluated.result.metrics["accuracy"])
    assert accuracies[-1] > max(0.5, accuracies[0])
