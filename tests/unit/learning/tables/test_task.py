"""The task of a table: its card, its held-out rows, and whole runs of three devices in this process."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from sklearn import datasets

from p2pfl.agreement import merge_cards
from p2pfl.cards import CLASSIFICATION, REGRESSION, Agreement, ColumnCard, DataCard
from p2pfl.errors import TaskError
from p2pfl.learning import commands, training, weights
from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.jobs import Jobs
from p2pfl.learning.objective import Classification, Objective, Regression
from p2pfl.learning.tables import task
from p2pfl.learning.tables.encoding import encode_file
from p2pfl.learning.tables.kinds import TargetColumn
from p2pfl.learning.tables.models import build_table_model
from p2pfl.learning.tables.row_keys import Keys, ranks
from p2pfl.learning.tables.task import TableLocalTask, choose_held_out, open_table
from p2pfl.messages import Evaluation, add_evaluations
from p2pfl.spec import RunSpec, TableTask, model_name
from p2pfl.work import AggregatedModel, AggregationJob, EvaluationJob, TrainingJob, WeightedUpdate
from tests.support.core import ballot
from tests.support.tables import table_spec, write_table

TASK = TableTask("target", "mlp", holdout=0.25)

Rows = Sequence[Sequence[object]]


def opened(path: Path, task: TableTask = TASK, seed: int = 1) -> TableLocalTask:
    return open_table(task, seed, DataPlaces(own=path))


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Return a table of 40 rows, of which 30 have the class "no"."""
    rows = [(20 + index, "fm"[index % 2], "yes" if index % 4 == 0 else "no") for index in range(40)]
    return write_table(tmp_path / "people.csv", ["age", "sex", "target"], rows)


# --- owners -----------------------------------------------------------------------------------------------------


def test_the_owner_of_a_row_is_its_value_of_a_column(people: Path) -> None:
    local = opened(people)
    assert sorted({*local.owners("sex")}) == ["f", "m"]
    assert len({*local.owners("age")}) == local.card.examples == len(local.owners("sex"))


def test_rows_without_an_owner_are_refused(tmp_path: Path) -> None:
    rows = [(index % 3 or "", "yes" if index % 2 else "no") for index in range(40)]
    local = opened(write_table(tmp_path / "gaps.csv", ["who", "target"], rows))
    with pytest.raises(TaskError, match="Not every row has an owner in the column 'who'"):
        local.owners("who")
    with pytest.raises(
        TaskError, match="no column 'town' that names the owner of each row; its columns are: who"
    ):
        local.owners("town")


# --- the card ---------------------------------------------------------------------------------------------------


def test_the_card_describes_all_rows_and_counts_those_that_are_trained_on(people: Path) -> None:
    card = opened(people).card
    assert (card.task, card.examples, card.share, card.measures) == ("table", 30, "labels", CLASSIFICATION)
    assert [(count.label, count.examples) for count in card.labels] == [("no", 22), ("yes", 8)]
    age, sex = card.columns
    assert (age.name, age.kind, age.values, age.mean) == ("age", "number", 40, 39.5)
    assert age.spread == pytest.approx(sum((index - 19.5) ** 2 for index in range(40)))
    assert (sex.kind, sex.categories) == ("category", ("f", "m"))
    assert card.target is not None
    assert card.target.categories == ("no", "yes")
    assert msgspec.convert(msgspec.to_builtins(card), DataCard) == card


def test_counts_of_classes_are_told_only_if_they_are_shared(people: Path) -> None:
    card = opened(people, msgspec.structs.replace(TASK, share="counts")).card
    assert [(count.label, count.examples) for count in card.labels] == [("no", 0), ("yes", 0)]
    assert card.examples == 30
    with pytest.raises(TaskError, match="--share none is not possible: --share counts tells least"):
        opened(people, msgspec.structs.replace(TASK, share="none"))


def test_the_card_of_a_number_has_no_labels(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", ["x", "target"], [(index, index / 3) for index in range(30)])
    card = opened(path).card
    assert (card.labels, card.measures) == ((), REGRESSION)


def test_what_was_read_is_logged(people: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        opened(people)
    assert caplog.messages == [
        "40 rows; column age: number; sex: category (2); target target: class (2)",
        "people.csv: the column 'age' numbers the rows: leave it out",
    ]


def test_a_device_without_a_table_is_told_the_option() -> None:
    with pytest.raises(TaskError, match=r"name this device's with --data FILE.csv"):
        open_table(TASK, 1, DataPlaces())


def test_a_card_has_at_most_its_number_of_notes(tmp_path: Path) -> None:
    names = [f"x{index}" for index in range(30)]
    path = write_table(tmp_path / "t.csv", [*names, "target"], [[1] * 30 + [row] for row in ("a", "b", "c")])
    notes = opened(path).card.notes
    assert (len(notes), notes[-1]) == (20, "and 11 more")


# --- held-out rows ----------------------------------------------------------------------------------------------


def of_classes(*counts: int) -> TargetColumn:
    classes = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    return TargetColumn(ColumnCard("target", "category"), classes, None, 0.0)


def some_ranks(rows: int, seed: int) -> Keys:
    return ranks(np.arange(rows, dtype=np.uint64), seed)


@pytest.mark.parametrize(
    ("counts", "share", "held_out"),
    [
        ((100, 20), 0.1, [10, 2]),
        ((95, 5, 1), 0.1, [9, 1, 0]),
        ((3, 3), 0.5, [2, 1]),
        ((2,), 0.01, [1]),
        ((1, 1), 0.99, [1, 0]),
    ],
)
def test_each_class_gives_its_share(counts: tuple[int, ...], share: float, held_out: list[int]) -> None:
    target = of_classes(*counts)
    assert target.classes is not None
    chosen = choose_held_out(target, some_ranks(sum(counts), 5), share)
    assert np.bincount(target.classes[chosen], minlength=len(counts)).tolist() == held_out


def test_the_seed_determines_which_rows_are_held_out() -> None:
    for target in (
        of_classes(60, 40),
        TargetColumn(of_classes(1).card, None, np.zeros(100, np.float32), 0.0),
    ):
        one, again, other = (choose_held_out(target, some_ranks(100, seed), 0.2) for seed in (1, 1, 2))
        assert one.sum() == other.sum() == 20
        assert (one == again).all()
        assert (one != other).any()


def test_one_row_is_too_few() -> None:
    with pytest.raises(TaskError, match="The table has 1 row with a target, and at least 2 are needed"):
        choose_held_out(of_classes(1), some_ranks(1, 1), 0.1)


def held_out_rows(
    folder: Path, rows: Rows, header: Sequence[str] = ("age", "sex", "target")
) -> set[tuple[str, ...]]:
    """The rows that a device with this table holds out, each as it is written, in the order of the names."""
    local = opened(write_table(folder / "t.csv", header, rows))
    order = np.argsort(header)
    return {tuple(str(rows[index][place]) for place in order) for index in local._test_rows.tolist()}


def test_most_held_out_rows_stay_when_rows_are_added(tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    rows: Rows = [
        [f"{chance.normal(40, 9):.3f}", "fm"[index % 2], ("no", "no", "yes")[index % 3]]
        for index in range(3000)
    ]
    first = held_out_rows(tmp_path, rows[:2000])
    assert len(first) == 500
    assert len(first & held_out_rows(tmp_path, rows[:2200])) >= 430
    assert len(first & held_out_rows(tmp_path, [*rows[2000:2200], *rows[:2000]])) >= 430
    swapped: Rows = [[row[2], row[1], row[0]] for row in reversed(rows[:2000])]
    assert held_out_rows(tmp_path, swapped, ("target", "sex", "age")) == first
    numbers: Rows = [[row[0], row[1], row[0]] for row in rows]
    first = held_out_rows(tmp_path, numbers[:2000])
    assert len(first & held_out_rows(tmp_path, numbers[:2200])) >= 430


# --- prepared ---------------------------------------------------------------------------------------------------


def agreed(spec: RunSpec, **cards: DataCard) -> Agreement:
    agreement, flaw = merge_cards(spec.task, cards)
    assert agreement is not None, flaw
    return agreement


@pytest.mark.parametrize("encoded_bytes", [0, 2**20])
def test_training_and_held_out_rows_are_all_rows_encoded_as_agreed(
    people: Path, monkeypatch: pytest.MonkeyPatch, encoded_bytes: int
) -> None:
    monkeypatch.setattr(task, "ENCODED_BYTES", encoded_bytes)
    spec, local = table_spec(holdout=0.25), opened(people)
    prepared = local.prepare(spec, agreed(spec, ada=local.card), torch.device("cpu"))
    parts = [prepared.train_part(0), prepared.test_part(0, 1)]
    assert [part.examples for part in parts] == [30, 10] == [local.card.examples, local.test_examples]
    assert prepared.part_card(0) == local.card
    rows = torch.cat([inputs for part in parts for inputs, _, _ in part.ordered(7)])
    targets = torch.cat([targets for part in parts for _, targets, _ in part.ordered(7)])
    ages = (torch.arange(40.0) - 19.5) / (sum((index - 19.5) ** 2 for index in range(40)) / 40) ** 0.5
    order = rows[:, 0].argsort()
    torch.testing.assert_close(rows[order, 0], ages)
    assert rows[order, 1:].tolist() == [[1, 0, 0], [0, 1, 0]] * 20
    assert targets[order].tolist() == [1, 0, 0, 0] * 10


def test_a_private_table_has_one_partition_and_a_known_model(people: Path) -> None:
    spec, local = table_spec(holdout=0.25), opened(people)
    agreement = agreed(spec, ada=local.card)
    prepared = local.prepare(spec, agreement, torch.device("cpu"))
    with pytest.raises(TaskError, match="no partition 1 of a table"):
        prepared.train_part(1)
    with pytest.raises(TaskError, match="no model 'cnn' for tables"):
        local.prepare(table_spec(model="cnn"), agreement, torch.device("cpu"))


# --- runs of three devices --------------------------------------------------------------------------------------


class Run:
    """A run of devices that are `Jobs` in this process."""

    def __init__(self, folder: Path, files: Sequence[Path], spec: RunSpec) -> None:
        self.spec, self.folder = spec, folder
        folder.mkdir()
        self.jobs = [Jobs("cpu", 1, DataPlaces(own=file)) for file in files]
        cards = {}
        for index, jobs in enumerate(self.jobs):
            described = self.do(jobs, commands.DescribeJob(1, spec))
            assert isinstance(described, commands.DescribeDone)
            cards[f"device{index}"] = described.card
        self.agreement = agreed(spec, **cards)
        created = self.do(self.jobs[0], commands.CreateJob(1, spec, self.agreement, str(folder / "initial")))
        assert isinstance(created, commands.CreateDone)
        for jobs in self.jobs:
            described = self.do(jobs, commands.DescribeJob(1, spec, self.agreement))
            assert isinstance(described, commands.DescribeDone)
            assert described.schema == created.schema
        self.model = created.digest
        (folder / "initial").rename(folder / self.model)
        for number in range(1, spec.rounds + 1):
            self.model = self.round(number)

    def do(self, jobs: Jobs, command: commands.Command) -> commands.Answer:
        return jobs.do(command, lambda _: None, lambda: False)

    def round(self, number: int) -> str:
        """Train on all devices and average; return the digest of the new model."""
        updates = []
        for index, jobs in enumerate(self.jobs):
            job, name = TrainingJob("run", number, self.spec, self.agreement, self.model, 0), f"update{index}"
            trained = self.do(jobs, commands.RunTraining(1, job, str(self.folder), str(self.folder / name)))
            assert isinstance(trained, commands.TrainingDone)
            updates.append(WeightedUpdate(name, trained.result.part.examples))
        job2 = AggregationJob("run", number, ballot(1, "ada"), self.spec, self.model, tuple(updates))
        command = commands.RunAggregation(1, job2, str(self.folder), str(self.folder / "mean"))
        averaged = self.do(self.jobs[0], command)
        assert isinstance(averaged, commands.AggregationDone)
        assert isinstance(averaged.result, AggregatedModel)
        (self.folder / "mean").rename(self.folder / averaged.result.digest)
        return averaged.result.digest

    def evaluate(self) -> Evaluation:
        """Return the evaluation of the model on the held-out rows of all devices."""
        job = EvaluationJob("run", 1, self.spec, self.agreement, self.model, 0, 1)
        evaluations = []
        for jobs in self.jobs:
            evaluated = self.do(jobs, commands.RunEvaluation(1, job, str(self.folder)))
            assert isinstance(evaluated, commands.EvaluationDone)
            evaluations.append(evaluated.result)
        return add_evaluations(evaluations)

    def judge(self, file: Path) -> Evaluation:
        """Return the evaluation of the model on another file."""
        module = build_table_model(model_name(self.spec.task), self.agreement)
        weights.load_into(self.folder / self.model, module, self.model)
        rows = encode_file(file, self.agreement, with_target=True)
        assert rows.targets is not None
        target = self.agreement.target
        assert target is not None
        objective: Objective = (
            Regression(target.deviation) if target.kind == "number" else Classification(self.agreement)
        )
        batches = TensorBatches(rows.inputs, rows.targets, torch.arange(len(rows.inputs)))
        return training.evaluate(module, batches, objective)


def breast_cancer() -> tuple[list[str], Rows]:
    data = datasets.load_breast_cancer()
    names = [str(name) for name in data.feature_names]
    return [*names, "target"], [
        [*x.tolist(), str(data.target_names[y])] for x, y in zip(data.data, data.target, strict=True)
    ]


def diabetes() -> tuple[list[str], Rows]:
    data = datasets.load_diabetes(scaled=False)
    return [*data.feature_names, "target"], [
        [*x.tolist(), y] for x, y in zip(data.data, data.target.tolist(), strict=True)
    ]


SHARES = (0.6, 0.28, 0.12)
"""Of the rows, on three devices."""


def divided(folder: Path, header: Sequence[str], rows: Rows) -> list[Path]:
    """Write the rows to three files of different sizes."""
    ends = [round(sum(SHARES[:index]) * len(rows)) for index in range(4)]
    return [
        write_table(folder / f"device{index}.csv", header, rows[ends[index] : ends[index + 1]])
        for index in range(3)
    ]


@pytest.mark.parametrize("model", ["linear", "mlp"])
@pytest.mark.parametrize(
    ("table_of", "metric", "tolerance"), [(breast_cancer, "accuracy", 0.01), (diabetes, "r2", 0.02)]
)
def test_three_devices_learn_as_much_as_one_that_has_all_rows(
    tmp_path: Path, model: str, table_of: object, metric: str, tolerance: float
) -> None:
    assert callable(table_of)
    header, rows = table_of()
    order = np.random.default_rng(0).permutation(len(rows))
    together, alone = [], []
    for fold in range(3):  # each row is judged once, by models that have not seen it
        folder = tmp_path / str(fold)
        folder.mkdir()
        unseen = write_table(folder / "unseen.csv", header, [rows[index] for index in order[fold::3]])
        seen = [rows[index] for place, index in enumerate(order) if place % 3 != fold]
        spec = table_spec(model=model)
        files = divided(folder, header, seen)
        together.append(Run(folder / "together", files, spec).judge(unseen))
        alone.append(
            Run(folder / "alone", [write_table(folder / "all.csv", header, seen)], spec).judge(unseen)
        )
    federated, pooled = (add_evaluations(parts).metrics[metric] for parts in (together, alone))
    assert federated > pooled - tolerance
    if model == "linear":  # the other one overfits a small table less when its updates are averaged
        assert federated == pytest.approx(pooled, abs=tolerance)
    assert federated > (0.96 if metric == "accuracy" else 0.45)


def test_standardised_values_are_those_of_the_pooled_table(tmp_path: Path) -> None:
    header, rows = breast_cancer()
    rows = [[1.7e9 + 10 * index, *row] for index, row in enumerate(rows)]
    header = ["time", *header]
    spec, pooled = table_spec(rounds=1), write_table(tmp_path / "all.csv", header, rows)
    run = Run(tmp_path / "run", divided(tmp_path, header, rows), spec)
    inputs = encode_file(pooled, run.agreement, with_target=False).inputs
    values = np.array([row[:-1] for row in rows], np.float64)
    wanted = (values - values.mean(axis=0)) / values.std(axis=0)
    # The largest values have ten deviations, and float32 has seven digits.
    np.testing.assert_allclose(inputs.numpy(), wanted, rtol=2e-7, atol=1e-6)
    assert run.evaluate().examples == sum(round(0.1 * len(rows) * share) for share in SHARES)


def test_three_devices_with_gaps_and_categories_of_their_own_train_one_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)

    def rows(cities: Sequence[str], gaps: float) -> Rows:
        return [
            (
                "" if rng.random() < gaps else f"{rng.normal() + 3 * label:.3f}",
                rng.choice(cities),
                ("no", "yes")[label],
            )
            for label in rng.integers(0, 2, 80)
        ]

    shares = [rows(["Bern", "Rome"], 0.0), rows(["Oslo"], 0.3), rows(["Rome", "Kiev"], 0.0)]
    files = [
        write_table(tmp_path / f"{index}.csv", ["x", "city", "target"], share)
        for index, share in enumerate(shares)
    ]
    run = Run(tmp_path / "run", files, table_spec())
    x, city = run.agreement.columns
    assert (x.is_gappy, city.is_gappy) == (True, False)
    assert city.categories == ("Bern", "Kiev", "Oslo", "Rome")
    assert run.agreement.classes == ("no", "yes")
    assert run.evaluate().metrics["accuracy"] > 0.8


def test_a_table_gives_the_same_models_again(tmp_path: Path) -> None:
    header, rows = diabetes()
    files = divided(tmp_path, header, rows)
    spec = table_spec(rounds=2)
    assert Run(tmp_path / "one", files, spec).model == Run(tmp_path / "two", files, spec).model
