from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import p2pfl
from p2pfl.cards import REGRESSION, AgreedColumn, Agreement
from p2pfl.errors import P2pflError, TaskError, UserError
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.exports.exported import LoadedModel, load
from p2pfl.learning.models import MODELS, ImageShape
from p2pfl.learning.tables.models import build_table_model
from p2pfl.learning.tasks.digits import TASK as DIGITS
from p2pfl.spec import from_options, to_options
from tests.support.exported import export_module
from tests.support.learning import SPEC, pictures_spec
from tests.support.pictures import noise, write_picture
from tests.support.records import AGREEMENT
from tests.support.tables import table_spec, write_table
from tests.support.user_tasks import file_spec, write_task

COLUMNS = (
    AgreedColumn("age", "number", is_gappy=True, mean=40.0, deviation=10.0),
    AgreedColumn("city", "category", categories=("León", "Vigo")),
)
PRICES = Agreement(
    (), 90, REGRESSION, columns=COLUMNS, target=AgreedColumn("price", "number", mean=7.0, deviation=3.0)
)
BUYERS = Agreement(
    ("no", "yes"), 90, columns=COLUMNS, target=AgreedColumn("buys", "category", categories=("no", "yes"))
)
PETS = Agreement(("cat", "dog", "fox"), 90, input_shape=(3, 8, 8))

MINE = """
    import torch
    from torch import nn

    def model(agreed):
        return nn.Sequential(nn.Linear(agreed.input_shape[0], len(agreed.classes)))

    def data():
        return torch.randn(20, 4), torch.arange(20) % 2
    """
OWN = Agreement(("0", "1"), 90, input_shape=(4,))


def same(one: nn.Module, other: nn.Module) -> bool:
    states = (one.state_dict(), other.state_dict())
    return all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))


def pets(tmp_path: Path) -> tuple[nn.Module, LoadedModel]:
    module = MODELS["2nn"](ImageShape(3, 8, 8), 3).eval()
    return module, load(export_module(tmp_path, module, pictures_spec(model="2nn"), PETS))


def prices(tmp_path: Path) -> tuple[nn.Module, LoadedModel]:
    module = build_table_model("linear", PRICES)
    return module, load(export_module(tmp_path, module, table_spec(target="price", model="linear"), PRICES))


def test_a_built_in_model_is_ready_to_use(tmp_path: Path) -> None:
    module = DIGITS.build("2nn").eval()
    model = p2pfl.load(export_module(tmp_path, module, SPEC, AGREEMENT))
    assert isinstance(model, nn.Module)
    assert not model.training
    assert not model.module.training
    assert model.classes == tuple("0123456789")
    assert same(model.module, module)
    x = DIGITS.load(DataPlaces()).test_x[:9]
    assert torch.equal(model(x), module(x))
    expected = module(x).detach().double().softmax(1)
    for row, one in zip(expected, model.predict(x), strict=True):
        assert one.label == str(int(row.argmax()))
        assert one.probability == pytest.approx(float(row.max()))
        assert one.probabilities == pytest.approx(row.tolist())


def test_loading_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    path = export_module(tmp_path, DIGITS.build("2nn"), SPEC, AGREEMENT)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(path)
    assert torch.equal(torch.rand(3), expected)


def test_a_picture_of_any_kind_is_prepared_as_in_training(tmp_path: Path) -> None:
    module, model = pets(tmp_path)
    pixels = noise(1, 8, 8, 3)
    path = write_picture(tmp_path / "a.png", pixels)
    expected = module((torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255 - 0.5) / 0.25)
    for picture in (path, str(path), Image.open(path), pixels):
        assert torch.allclose(model(model.preprocess(picture)), expected, atol=1e-5)
    several = model.predict([path, pixels, Image.open(path)])
    assert [one.label for one in several] == [PETS.classes[int(expected.argmax())]] * 3


def test_a_picture_of_another_shape_and_depth_fits_the_model(tmp_path: Path) -> None:
    _, model = pets(tmp_path)
    grey = write_picture(tmp_path / "grey.png", noise(2, 30, 20))
    assert model.preprocess(grey).shape == (1, 3, 8, 8)
    assert model.predict([]) == []


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    _, model = pets(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(TaskError, match=r"broken\.png cannot be read: it is in no format"):
        model.predict(tmp_path / "broken.png")
    with pytest.raises(
        TaskError, match="A picture is a path, a PIL picture or an array of bytes, and not int"
    ):
        model.predict([3])


def test_rows_are_encoded_by_the_agreement(tmp_path: Path) -> None:
    module, model = prices(tmp_path)
    rows = [
        {"age": 50, "city": "Vigo"},
        {"age": None, "city": "Oslo"},
        {"city": "León", "age": "30", "more": 1},
    ]
    inputs = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 0, 0, 1], [-1, 0, 1, 0, 0]])
    assert torch.allclose(model.preprocess(rows), inputs)
    expected = (module(inputs).flatten().double() * 3 + 7).tolist()
    assert [one.value for one in model.predict(rows)] == pytest.approx(expected, rel=1e-6)
    assert [one.value for one in model.predict(rows[0])] == pytest.approx(expected[:1], rel=1e-6)
    path = write_table(tmp_path / "rows.csv", ["city", "age"], [["Vigo", 50], ["Oslo", ""], ["León", 30]])
    assert [one.value for one in model.predict(path)] == pytest.approx(expected, rel=1e-6)
    assert model.predict(rows)[0].label == ""


def test_a_frame_is_a_list_of_rows(tmp_path: Path) -> None:
    class Frame:
        columns = ("age", "city")

        def to_dict(self, how: str) -> list[dict[str, object]]:
            assert how == "records"
            return [{"age": np.float64(50), "city": "Vigo"}, {"age": float("nan"), "city": "Vigo"}]

    _, model = prices(tmp_path)
    assert model.preprocess(Frame()).tolist() == [[1, 0, 0, 1, 0], [0, 1, 0, 1, 0]]


def test_a_table_of_classes_predicts_their_names(tmp_path: Path) -> None:
    module = build_table_model("mlp", BUYERS)
    model = load(export_module(tmp_path, module, table_spec(target="buys"), BUYERS))
    [one] = model.predict({"age": 20, "city": "Vigo"})
    logits = module(torch.tensor([[-2.0, 0, 0, 1, 0]]))[0]
    assert one.label == BUYERS.classes[int(logits.argmax())]
    assert one.probabilities == pytest.approx(logits.softmax(0).tolist(), rel=1e-5)


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    _, model = prices(tmp_path)
    with pytest.raises(TaskError, match="The table has no column 'age'"):
        model.predict([{"city": "Vigo"}])
    with pytest.raises(TaskError, match="'young'"):
        model.predict([{"age": "young", "city": "Vigo"}])
    with pytest.raises(TaskError, match="A row of a table is a mapping"):
        model.predict([[50, "Vigo"]])


def test_a_model_of_ones_own_needs_the_file_that_defines_it(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 2))
    path = export_module(tmp_path, module, file_spec(), OWN)
    with pytest.raises(TaskError, match=r"is defined by the task 'mine'.*load\(path, task='mine.py'\)"):
        load(path)
    model = load(path, task=write_task(tmp_path, MINE))
    assert same(model.module, module)
    x = torch.randn(3, 4)
    assert [one.label for one in model.predict(x)] == [str(int(row.argmax())) for row in module(x)]
    with pytest.raises(TaskError, match="a task of your own, whose inputs p2pfl does not know"):
        model.predict(["a.png"])


def test_a_task_may_answer_from_the_outputs_itself(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 2))
    path = export_module(tmp_path, module, file_spec(), OWN)
    functions = """
    def inputs(place):
        return torch.ones(2, 4)

    def predict(outputs):
        return [f"{len(row)} outputs" for row in outputs]
    """
    model = load(path, task=write_task(tmp_path, MINE + functions))
    assert [one.text for one in model.predict(tmp_path)] == ["2 outputs", "2 outputs"]


def test_other_code_than_the_runs_is_refused(tmp_path: Path) -> None:
    path = export_module(tmp_path, nn.Sequential(nn.Linear(4, 3)), file_spec(), OWN)
    with pytest.raises(
        UserError, match=r"does not fit the code that defines it \(0\.bias F32\[3\] there is 0\.bias"
    ):
        load(path, task=write_task(tmp_path, MINE))


def test_an_error_in_the_users_code_is_placed(tmp_path: Path) -> None:
    path = export_module(tmp_path, nn.Sequential(nn.Linear(4, 2)), file_spec(), OWN)
    broken = write_task(tmp_path, MINE.replace("return nn.Sequential", "return 1 / 0 or nn.Sequential"))
    with pytest.raises(TaskError, match=r"mine\.py, line 5, in model\(\): ZeroDivisionError"):
        load(path, task=broken)


def test_a_model_of_a_script_is_given(tmp_path: Path) -> None:
    options = {
        name: value
        for name, value in to_options(file_spec()).items()
        if name not in ("kind", "holdout", "partition", "partitions")
    }
    path = export_module(tmp_path, nn.Linear(2, 1), from_options(kind="script", **options), Agreement((), 9))
    with pytest.raises(TaskError, match=r"defined by the script 'mine'.*module=model"):
        load(path)
    module = nn.Linear(2, 1)
    model = load(path, module=module)
    assert model.module is module
    x = torch.ones(1, 2)
    assert [one.value for one in model.predict(x)] == pytest.approx(module(x).flatten().tolist())


def test_outputs_that_are_neither_classes_nor_numbers_are_refused(tmp_path: Path) -> None:
    path = export_module(tmp_path, nn.Conv2d(1, 2, 1), file_spec(), OWN)
    model = load(path, module=nn.Conv2d(1, 2, 1))
    with pytest.raises(TaskError, match="neither one number for each class nor one number"):
        model.predict(torch.zeros(1, 1, 4, 4))


def test_a_model_that_this_version_does_not_have_is_refused(tmp_path: Path) -> None:
    module = MODELS["2nn"](ImageShape(3, 8, 8), 3)
    path = export_module(tmp_path, module, pictures_spec(model="hologram"), PETS)
    with pytest.raises(TaskError, match="no model 'hologram' for pictures"):
        load(path)
    path = export_module(tmp_path, module, table_spec(model="hologram"), BUYERS)
    with pytest.raises(TaskError, match="no model 'hologram' for tables"):
        load(path)


def test_a_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = export_module(tmp_path, DIGITS.build("2nn"), SPEC, AGREEMENT)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(P2pflError, match="is damaged"):
        load(path)
