from __future__ import annotations

from pathlib import Path

import pytest
import torch

from p2pfl.cards import CLASSIFICATION, REGRESSION, AgreedColumn, Agreement
from p2pfl.errors import TaskError
from p2pfl.learning.tables.encoding import Encoder, encode_file, encode_rows, inputs_of, targets_of
from tests.support.tables import read_columns, write_table

AGREEMENT = Agreement(
    ("no", "yes"),
    100,
    CLASSIFICATION,
    columns=(
        AgreedColumn("city", "category", categories=("Bern", "Rome")),
        AgreedColumn("age", "number", is_gappy=True, mean=40.0, deviation=10.0),
        AgreedColumn("sex", "category", is_gappy=True, categories=("f", "m")),
        AgreedColumn("height", "number", mean=170.0, deviation=5.0),
    ),
    target=AgreedColumn("target", "category", categories=("no", "yes")),
)


def test_each_column_has_its_inputs_in_the_order_of_the_agreement(tmp_path: Path) -> None:
    table = read_columns(
        tmp_path,
        height=[175, 160, ""],
        sex=["m", "", "x"],
        age=[50, "", 40],
        city=["Rome", "Oslo", ""],
    )
    assert inputs_of(AGREEMENT) == 10
    inputs = Encoder(AGREEMENT, table.features, torch.device("cpu"))(torch.from_numpy(table.cells))
    #  Bern Rome other  age gap    f m other gap   height
    assert inputs.tolist() == [
        [0, 1, 0, 1, 0, 0, 1, 0, 0, 1],
        [0, 0, 1, 0, 1, 0, 0, 0, 1, -2],
        [0, 0, 1, 0, 0, 0, 0, 1, 0, 0],
    ]


def test_values_far_from_zero_are_standardised_exactly_enough(tmp_path: Path) -> None:
    values = [1_700_000_000.5 + 0.25 * index for index in range(-40, 40)]
    table = read_columns(tmp_path, time=values)
    agreement = Agreement(
        (), 9, columns=(AgreedColumn("time", "number", mean=1_700_000_010.0, deviation=5.75),)
    )
    inputs = Encoder(agreement, table.features, torch.device("cpu"))(torch.from_numpy(table.cells))
    wanted = torch.tensor([[(value - 1_700_000_010.0) / 5.75] for value in values], dtype=torch.float64)
    torch.testing.assert_close(inputs.double(), wanted, rtol=0, atol=1e-6)


def test_a_column_without_values_on_this_device_is_missing_everywhere(tmp_path: Path) -> None:
    table = read_columns(tmp_path, city=["", ""], age=[1, 2], sex=["", "f"], height=["", 1])
    inputs = Encoder(AGREEMENT, table.features, torch.device("cpu"))(torch.from_numpy(table.cells))
    assert inputs[:, :3].tolist() == [[0, 0, 1], [0, 0, 1]]


def test_classes_are_indices_into_those_of_the_run(tmp_path: Path) -> None:
    target = read_columns(tmp_path, "target", x=[1, 2], target=["yes", "yes"]).target
    assert target is not None
    assert targets_of(AGREEMENT, target).tolist() == [1, 1]


def test_targets_that_do_not_fit_the_run_are_refused(tmp_path: Path) -> None:
    text = read_columns(tmp_path, "target", x=[1, 2], target=["perhaps", "yes"]).target
    number = read_columns(tmp_path, "target", x=[1, 2], target=[0.5, 1.5]).target
    assert text is not None
    assert number is not None
    with pytest.raises(
        TaskError, match="The target 'target' has the class 'perhaps', which the run does not have"
    ):
        targets_of(AGREEMENT, text)
    with pytest.raises(TaskError, match="too many different values to be a class"):
        targets_of(AGREEMENT, number)
    regression = Agreement(
        (), 9, REGRESSION, target=AgreedColumn("target", "number", mean=1.0, deviation=0.5)
    )
    assert targets_of(regression, number).tolist() == [[-1.0], [1.0]]
    with pytest.raises(TaskError, match="holds text, and the run predicts a number"):
        targets_of(regression, text)


def test_another_file_is_encoded_by_the_agreement_alone(tmp_path: Path) -> None:
    header = ["id", "target", "age", "city", "sex", "height"]
    rows = [["p1", "yes", "60", "Rome", "f", "165"], ["p2", "", "", "Bern", "", "170"]]
    path = write_table(tmp_path / "new.csv", header, rows)
    with_target = encode_file(path, AGREEMENT, with_target=True)
    assert with_target.targets is not None
    assert with_target.targets.tolist() == [1]
    assert with_target.inputs.tolist() == [[0, 1, 0, 2, 0, 1, 0, 0, 0, -1]]
    without = encode_file(path, AGREEMENT, with_target=False)
    assert without.targets is None
    assert without.inputs.tolist() == [
        [0, 1, 0, 2, 0, 1, 0, 0, 0, -1],
        [1, 0, 0, 0, 1, 0, 0, 0, 1, 0],
    ]
    with pytest.raises(TaskError, match="has no column 'height'"):
        encode_file(write_table(path, header[:-1], [row[:-1] for row in rows]), AGREEMENT, with_target=False)


def test_numbers_of_another_file_are_standardised_as_agreed(tmp_path: Path) -> None:
    agreement = Agreement(
        (),
        9,
        REGRESSION,
        columns=(AgreedColumn("x", "number", mean=1.0, deviation=2.0),),
        target=AgreedColumn("target", "number", mean=10.0, deviation=4.0),
    )
    path = write_table(tmp_path / "new.csv", ["x", "target"], [[5, 14], [1, 10]])
    encoded = encode_file(path, agreement, with_target=True)
    assert encoded.targets is not None
    assert (encoded.inputs.tolist(), encoded.targets.tolist()) == ([[2], [0]], [[1], [0]])


def test_rows_of_a_program_are_encoded_as_those_of_a_file(tmp_path: Path) -> None:
    age = AgreedColumn("age", "number", is_gappy=True, mean=40.0, deviation=10.0)
    member = AgreedColumn("member", "category", categories=("False", "True"))
    agreement = Agreement((), 9, REGRESSION, columns=(age, member), target=AgreedColumn("price", "number"))
    rows: list[dict[str, object]] = [
        {"age": 50, "member": True},
        {"member": False, "age": float("nan")},
        {"age": "30.5"},
    ]
    table = write_table(tmp_path / "rows.csv", ["age", "member"], [[50, "True"], ["", "False"], [30.5, ""]])
    encoded = encode_rows(rows, agreement)
    assert torch.allclose(encoded, torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 1, 0, 0], [-0.95, 0, 0, 0, 1]]))
    assert torch.equal(encoded, encode_file(table, agreement, with_target=False).inputs)


def test_no_rows_are_refused() -> None:
    agreement = Agreement((), 9, REGRESSION, columns=(), target=AgreedColumn("price", "number"))
    with pytest.raises(TaskError, match="The table"):
        encode_rows([], agreement)
