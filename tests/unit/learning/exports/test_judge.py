from __future__ import annotations

import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from p2pfl.errors import TaskError
from p2pfl.learning.exports.exported import load
from p2pfl.learning.exports.judge import answer_to, serve
from p2pfl.learning.exports.judging import (
    Converted,
    ConvertModel,
    EvaluateModel,
    Failed,
    Judged,
    Predicted,
    PredictInputs,
    Request,
    Unreadable,
)
from p2pfl.learning.models import MODELS, ImageShape
from p2pfl.learning.tables.models import build_table_model
from tests.support.exported import export_module
from tests.support.learning import pictures_spec
from tests.support.pictures import noise, write_noise, write_picture
from tests.support.tables import table_spec, write_table
from tests.support.user_tasks import file_spec, write_task
from tests.unit.learning.exports.test_exported import MINE, OWN, PETS, PRICES

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning"
)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return export_module(tmp_path, MODELS["2nn"](ImageShape(3, 8, 8), 3), pictures_spec(model="2nn"), PETS)


def answers(request: Request) -> list[object]:
    stream = io.BytesIO()
    serve(request, stream)
    kinds = Judged | Predicted | Unreadable | Converted | Failed
    return [msgspec.json.decode(line, type=kinds) for line in stream.getvalue().splitlines()]


def test_pictures_are_predicted_one_by_one_and_a_broken_one_stops_nothing(tmp_path: Path, pets: Path) -> None:
    first, last = (write_picture(tmp_path / f"{seed}.png", noise(seed)) for seed in (1, 2))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    one, two, three = answers(PredictInputs(str(pets), (str(first), str(broken), str(last)), "cpu"))
    [expected] = load(pets).predict(first)
    assert one == Predicted(str(first), 0, expected.label, expected.probability)
    assert isinstance(two, Unreadable)
    assert (two.file, "cannot be read" in two.reason) == (str(broken), True)
    assert isinstance(three, Predicted)


READS_FILES = """
    import numpy as np
    import torch
    from torch import nn

    def model(agreed):
        return nn.Sequential(nn.Linear(agreed.input_shape[0], len(agreed.classes)))

    def data(place):
        rows = torch.from_numpy(np.load(place))
        return rows, torch.zeros(len(rows), dtype=torch.int64)
    """


def test_what_the_users_task_reads_is_predicted_example_by_example(tmp_path: Path) -> None:
    path = export_module(tmp_path, nn.Sequential(nn.Linear(4, 2)), file_spec(), OWN)
    task = write_task(tmp_path, READS_FILES)
    several, single = tmp_path / "several.npy", tmp_path / "single.npy"
    rows = torch.randn(3, 4)
    np.save(several, rows.numpy())
    np.save(single, rows[:1].numpy())
    request = PredictInputs(str(path), (str(several), "gone.npy", str(single)), "cpu", str(task))
    found = answers(request)
    expected = load(path, task=task).predict(rows)
    assert found[:3] == [
        Predicted(str(several), row, one.label, one.probability) for row, one in enumerate(expected, start=1)
    ]
    assert found[3] == Unreadable("gone.npy", "gone.npy does not exist.")
    assert isinstance(found[4], Predicted)
    assert (found[4].row, found[4].label) == (0, expected[0].label)


def test_inputs_that_the_model_does_not_take_are_told_in_a_sentence(tmp_path: Path) -> None:
    path = export_module(tmp_path, nn.Sequential(nn.Linear(4, 2)), file_spec(), OWN)
    task, wide = write_task(tmp_path, READS_FILES), tmp_path / "wide.npy"
    np.save(wide, torch.randn(3, 5).numpy())
    files = (str(wide),)
    for request in (
        PredictInputs(str(path), files, "cpu", str(task)),
        EvaluateModel(str(path), str(task), *files),
    ):
        [failed] = answers(request)
        assert isinstance(failed, Failed)
        assert "mine.py" in failed.reason
        assert "RuntimeError: mat1 and mat2 shapes cannot be multiplied" in failed.reason


def test_rows_are_numbered(tmp_path: Path) -> None:
    module = build_table_model("linear", PRICES)
    path = export_module(tmp_path, module, table_spec(target="price", model="linear"), PRICES)
    table = write_table(tmp_path / "rows.csv", ["age", "city"], [[50, "Vigo"], [30, "León"]])
    found = answers(PredictInputs(str(path), (str(table),), "cpu"))
    assert [(one.file, one.row, one.label) for one in found if isinstance(one, Predicted)] == [
        (str(table), 1, ""),
        (str(table), 2, ""),
    ]
    assert [one.value for one in found if isinstance(one, Predicted)] == pytest.approx(
        [one.value for one in load(path).predict(table)]
    )
    [failed] = answers(PredictInputs(str(path), ("photo.png",), "cpu"))
    assert isinstance(failed, Failed)
    assert "predicts the rows of tables, and photo.png is none" in failed.reason


def test_an_evaluation_is_one_answer(tmp_path: Path, pets: Path) -> None:
    folder = write_noise(tmp_path / "photos", cat=2, dog=3)
    [judged] = answers(EvaluateModel(str(pets), data=str(folder), device="cpu"))
    assert isinstance(judged, Judged)
    assert [sum(row) for row in judged.confusion] == [2, 3, 0]


def test_each_file_of_a_conversion_is_an_answer(tmp_path: Path, pets: Path) -> None:
    path = tmp_path / "model.pt"
    assert answers(ConvertModel(str(pets), torchscript=str(path))) == [Converted(str(path))]
    assert torch.jit.load(path)(torch.zeros(4, 3, 8, 8)).shape == (4, 3)  # type: ignore[no-untyped-call]


def test_an_error_in_the_users_code_has_its_place(tmp_path: Path) -> None:
    path = export_module(tmp_path, nn.Sequential(nn.Linear(4, 2)), file_spec(), OWN)
    code = write_task(
        tmp_path, MINE + "\n    def metrics(outputs, targets):\n        return {'loss': 1 / 0}\n"
    )
    with pytest.raises(TaskError, match=r"mine\.py, line \d+, in metrics\(\): ZeroDivisionError"):
        list(answer_to(EvaluateModel(str(path), str(code), device="cpu")))


def test_a_failure_is_an_answer(tmp_path: Path, pets: Path) -> None:
    [failed] = answers(EvaluateModel(str(pets), device="cpu"))
    assert isinstance(failed, Failed)
    assert "This model classifies pictures" in failed.reason
    [failed] = answers(EvaluateModel(str(pets), device="tpu9"))
    assert isinstance(failed, Failed)
    assert "'tpu9' cannot be used here" in failed.reason
