from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from p2pfl.cards import Agreement
from p2pfl.errors import TaskError
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.exports.exported import LoadedModel, load
from p2pfl.learning.exports.judgement import CountingObjective, judge
from p2pfl.learning.exports.judging import EvaluateModel, Judged
from p2pfl.learning.models import MODELS, ImageShape
from p2pfl.learning.objective import Classification
from p2pfl.learning.tables.models import build_table_model
from p2pfl.learning.tasks.digits import TASK as DIGITS
from p2pfl.spec import from_options, to_options
from tests.support.exported import export_module
from tests.support.learning import SPEC, pictures_spec
from tests.support.pictures import noise, write_digits, write_noise, write_picture
from tests.support.records import AGREEMENT
from tests.support.tables import table_spec, write_table
from tests.support.user_tasks import file_spec, write_task
from tests.unit.learning.exports.test_exported import BUYERS, OWN, PETS, PRICES


def on(model: LoadedModel, data: Path | None = None, **more: str) -> Judged:
    return judge(model, EvaluateModel("model", data=str(data or ""), **more))


def digits(tmp_path: Path) -> LoadedModel:
    torch.manual_seed(3)
    return load(export_module(tmp_path, DIGITS.build("2nn"), SPEC, AGREEMENT))


def test_a_built_in_task_is_judged_on_its_test_split(tmp_path: Path) -> None:
    model, data = digits(tmp_path), DIGITS.load(DataPlaces())
    judged = on(model)
    predicted = model(data.test_x).argmax(1)
    right = int((predicted == data.test_y).sum())
    assert judged.data == "the test split of digits"
    assert judged.evaluation.examples == 360
    assert judged.evaluation.sums["accuracy"] == right
    assert judged.confusion[3][5] == int(((data.test_y == 3) & (predicted == 5)).sum())
    assert sum(row[place] for place, row in enumerate(judged.confusion)) == right
    assert [sum(row) for row in judged.confusion] == [one.examples for one in judged.evaluation.classes]


def test_a_built_in_model_is_judged_on_pictures_of_the_users_own(tmp_path: Path) -> None:
    model = digits(tmp_path)
    folder = write_digits(tmp_path / "photos", range(40))
    judged = on(model, folder)
    assert judged.evaluation.examples == 40
    paths = sorted(folder.rglob("*.png"))
    right = sum(one.label == path.parent.name for path, one in zip(paths, model.predict(paths), strict=True))
    assert judged.evaluation.sums["accuracy"] == right


def test_pictures_to_test_on_are_preferred(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load(
        export_module(tmp_path, MODELS["2nn"](ImageShape(3, 8, 8), 3), pictures_spec(model="2nn"), PETS)
    )
    write_noise(tmp_path / "photos" / "train", cat=5)
    write_noise(tmp_path / "photos" / "test", dog=3, fox=2)
    judged = on(model, tmp_path / "photos")
    assert judged.data.startswith("the pictures to test on in ")
    assert [sum(row) for row in judged.confusion] == [0, 3, 2]
    (tmp_path / "photos" / "train" / "cat" / "x.png").write_bytes(b"broken")
    on(model, tmp_path / "photos" / "train")
    assert "x.png" in capsys.readouterr().err


def test_pictures_that_do_not_fit_into_memory_are_judged_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(
        export_module(tmp_path, MODELS["2nn"](ImageShape(3, 8, 8), 3), pictures_spec(model="2nn"), PETS)
    )
    folder = write_noise(tmp_path / "photos", cat=5, dog=4)
    expected = on(model, folder)
    monkeypatch.setattr("p2pfl.learning.exports.judgement.fit_in_memory", lambda *_: False)
    assert on(model, folder).confusion == expected.confusion


def test_a_class_that_the_model_does_not_know_is_named(tmp_path: Path) -> None:
    model = digits(tmp_path)
    write_picture(tmp_path / "photos" / "zebra" / "1.png", noise(1))
    with pytest.raises(TaskError, match="pictures of 'zebra', a class that this model does not know"):
        on(model, tmp_path / "photos")


@pytest.mark.parametrize("name", ["rows.csv", "none"])
def test_pictures_are_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n")
    with pytest.raises(TaskError, match=f"This model classifies pictures.*{name} is none"):
        on(digits(tmp_path), tmp_path / name)


ROWS = [[50, "Vigo", 10], [30, "León", 4], [41, "Oslo", 9]]


def test_numbers_of_a_table_are_judged_in_their_units(tmp_path: Path) -> None:
    module = build_table_model("linear", PRICES)
    model = load(export_module(tmp_path, module, table_spec(target="price", model="linear"), PRICES))
    judged = on(model, write_table(tmp_path / "rows.csv", ["age", "city", "price"], ROWS))
    values = torch.tensor([one.value for one in model.predict(tmp_path / "rows.csv")])
    truth = torch.tensor([10.0, 4.0, 9.0])
    metrics = judged.evaluation.metrics
    assert metrics["mae"] == pytest.approx(float((values - truth).abs().mean()), rel=1e-5)
    r2 = 1 - float((values - truth).square().sum() / (truth - truth.mean()).square().sum())
    assert metrics["r2"] == pytest.approx(r2, rel=1e-4)
    assert judged.confusion == ()


def test_the_true_values_may_be_in_another_column(tmp_path: Path) -> None:
    model = load(export_module(tmp_path, build_table_model("mlp", BUYERS), table_spec(target="buys"), BUYERS))
    table = write_table(
        tmp_path / "rows.csv", ["age", "city", "bought"], [[50, "Vigo", "yes"], [30, "León", "no"]]
    )
    judged = on(model, table, target="bought")
    assert [sum(row) for row in judged.confusion] == [1, 1]
    with pytest.raises(TaskError, match="has no target 'buys'"):
        on(model, table)
    with pytest.raises(TaskError, match="predicts a column of a table: name a file with --data"):
        on(model)


MINE = """
    import torch
    from torch import nn

    def model(agreed):
        return nn.Sequential(nn.Linear(4, 2))

    def data():
        x = torch.arange(40.0).view(10, 4)
        return (x, torch.arange(10) % 2), (x[:6], torch.tensor([0, 0, 0, 0, 1, 1]))
    """


def own(tmp_path: Path, source: str) -> Judged:
    code = write_task(tmp_path, source)
    path = export_module(tmp_path, nn.Sequential(nn.Linear(4, 2)), file_spec(), OWN)
    return on(load(path, task=code), code=str(code))


def test_a_task_of_ones_own_is_judged_on_what_it_holds_out(tmp_path: Path) -> None:
    judged = own(tmp_path, MINE)
    assert judged.data == "what mine.py holds out"
    assert [sum(row) for row in judged.confusion] == [4, 2]
    assert judged.evaluation.examples == 6


def test_an_evaluation_of_ones_own_is_used(tmp_path: Path) -> None:
    judged = own(
        tmp_path, MINE + "\n    def evaluate(model, loader):\n        return {'loss': 0.5, 'charm': 0.25}\n"
    )
    assert judged.evaluation.metrics == {"charm": 0.25, "loss": 0.5}
    assert judged.confusion == ()


def test_a_script_judges_its_model_itself(tmp_path: Path) -> None:
    options = {
        name: value
        for name, value in to_options(file_spec()).items()
        if name not in ("kind", "holdout", "partition", "partitions")
    }
    path = export_module(tmp_path, nn.Linear(2, 1), from_options(kind="script", **options), Agreement((), 9))
    with pytest.raises(TaskError, match="evaluated by the script 'mine' only"):
        on(load(path, module=nn.Linear(2, 1)))


def test_confusions_are_counted_only_where_outputs_are_classes() -> None:
    counting = CountingObjective(Classification(AGREEMENT), 10)
    outputs: Tensor = torch.eye(10)[[1, 1, 2]]
    counts = counting.counts(outputs, torch.tensor([1, 2, 2]))
    assert counts is not None
    assert counts[1].tolist() == [1, 1, 2]
    assert (counting.confusion()[2][1], counting.confusion()[2][2]) == (1, 1)
    assert counting.sums(outputs, torch.tensor([1, 2, 2]))["accuracy"] == 2
    wide = CountingObjective(Classification(AGREEMENT), 3)
    wide.counts(outputs, torch.tensor([1, 2, 2]))
    assert wide.confusion() == ()
