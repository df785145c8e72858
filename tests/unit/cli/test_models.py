from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from torch import nn
from typer import Typer
from typer.testing import CliRunner, Result

from p2pfl.cards import Agreement
from p2pfl.cli.models import evaluate, predict
from p2pfl.errors import UserError
from p2pfl.exit_codes import ExitCode
from p2pfl.learning.exports.judging import (
    Answer,
    EvaluateModel,
    Judged,
    Predicted,
    PredictInputs,
    Request,
    Unreadable,
)
from p2pfl.learning.tasks.digits import TASK as DIGITS
from p2pfl.messages import ClassCount, Evaluation
from p2pfl.spec import ScriptTask
from tests.support.exported import export_module
from tests.support.learning import SPEC
from tests.support.pictures import write_digits
from tests.support.records import AGREEMENT
from tests.support.user_tasks import file_spec

app = Typer(rich_markup_mode=None)
app.command()(evaluate)
app.command()(predict)

COUNTS = tuple(ClassCount(2, 3, 2) for _ in range(10))
JUDGED = Judged(
    "the test split of digits",
    Evaluation(30, {"accuracy": 20.0, "loss": 15.0}, COUNTS),
    tuple(tuple(2 if row == column else 0 for column in range(10)) for row in range(10)),
)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words, env={"COLUMNS": "80", "TERM": "dumb"})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return export_module(tmp_path, DIGITS.build("2nn"), SPEC, AGREEMENT)


def answering(monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> list[Request]:
    requests: list[Request] = []

    def ask(request: Request) -> Iterator[Answer]:
        requests.append(request)
        yield from answers

    monkeypatch.setattr("p2pfl.learning.exports.judging.ask", ask)
    return requests


def test_an_evaluation_is_a_report(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    requests = answering(monkeypatch, JUDGED)
    lines = run("evaluate", str(model)).stdout.splitlines()
    assert lines[0] == ("builtin:digits, 2nn, round 3 of run abababa: 30 examples, the test split of digits")
    assert lines[1:3] == ["accuracy  0.6667", "f1        0.8000"]
    assert lines[-1].split() == ["9", *["."] * 9, "2"]
    assert requests == [EvaluateModel(str(model))]


def test_options_reach_the_process_that_evaluates(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    requests = answering(monkeypatch, JUDGED)
    words = (
        "--data",
        str(tmp_path),
        "--target",
        "y",
        "--task",
        "a:b",
        "--data-root",
        "/sets",
        "--device",
        "cpu",
    )
    assert run("evaluate", str(model), *words).exit_code == 0
    assert requests == [EvaluateModel(str(model), "a:b", str(tmp_path), "y", "/sets", "cpu")]


def test_an_evaluation_as_json_is_one_object(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    answering(monkeypatch, JUDGED)
    fields = json.loads(run("evaluate", str(model), "--json").stdout)
    assert (fields["round"], fields["run"], fields["data"]) == (3, "ab" * 32, "the test split of digits")
    assert fields["metrics"]["loss"] == 0.5
    assert fields["confusion"][4][4] == 2


def test_the_confusion_matrix_is_drawn(monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path) -> None:
    answering(monkeypatch, JUDGED)
    png = tmp_path / "matrix.png"
    assert run("evaluate", str(model), "--png", str(png)).stdout.endswith(f"Wrote {png}\n")
    assert png.read_bytes().startswith(b"\x89PNG")
    answering(monkeypatch, Judged("rows", Evaluation(4, {"mae": 2.0})))
    error = run("evaluate", str(model), "--png", str(png)).exception
    assert isinstance(error, UserError)
    assert "this model has none: leave it out" in str(error)


def test_a_prediction_is_a_line_and_a_broken_picture_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    broken = Unreadable("b.png", "The picture b.png cannot be read: it is empty.")
    requests = answering(
        monkeypatch, Predicted("a.png", 0, "7", 0.98765), broken, Predicted("c\x1b.png", 0, "1", 0.5)
    )
    result = run("predict", str(model), "a.png", "b.png", "c.png")
    assert result.stdout == "a.png  7  0.9877\nc?.png  1  0.5000\n"
    assert result.stderr == "p2pfl: The picture b.png cannot be read: it is empty.\n"
    assert result.exit_code == ExitCode.FAILED
    assert requests == [PredictInputs(str(model), ("a.png", "b.png", "c.png"))]


def test_rows_have_their_number_and_numbers_no_class(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    answers = (Predicted("rows.csv", 1, value=1234.5678), Predicted("rows.csv", 2, "yes", 0.75))
    answering(monkeypatch, *answers)
    result = run("predict", str(model), "rows.csv")
    assert result.stdout == "rows.csv:1  1234.57\nrows.csv:2  yes  0.7500\n"
    assert result.exit_code == 0
    rows = [json.loads(line) for line in run("predict", str(model), "rows.csv", "--json").stdout.splitlines()]
    assert rows == [
        {"file": "rows.csv", "row": 1, "value": 1234.5678},
        {"file": "rows.csv", "row": 2, "class": "yes", "probability": 0.75},
    ]


@pytest.mark.parametrize("command", [("evaluate",), ("predict", "a.png")])
def test_another_file_is_refused_before_any_process_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, ...]
) -> None:
    requests = answering(monkeypatch, JUDGED)
    (tmp_path / "a.txt").write_text("hello")
    error = run(command[0], str(tmp_path / "a.txt"), *command[1:]).exception
    assert isinstance(error, UserError)
    assert "is no safetensors file" in str(error)
    assert requests == []


OWN = Agreement(("0", "1"), 90, input_shape=(4,))


def test_a_model_of_ones_own_predicts_with_its_file_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [Predicted("a.npy", row, text=text) for row, text in ((1, "cat\a"), (2, "dog"))]
    requests = answering(monkeypatch, *rows)
    path = export_module(tmp_path, nn.Linear(4, 2), file_spec(), OWN)
    error = run("predict", str(path), "a.npy").exception
    assert isinstance(error, UserError)
    assert "name it with --task FILE" in str(error)
    assert requests == []
    words = ("predict", str(path), "a.npy", "--task", "mine.py")
    assert run(*words).stdout.splitlines() == ["a.npy:1  cat?", "a.npy:2  dog"]
    assert isinstance(requests[0], PredictInputs)
    assert requests[0].code.endswith("mine.py")
    first = json.loads(run(*words, "--json").stdout.splitlines()[0])
    assert first == {"file": "a.npy", "row": 1, "answer": "cat\a"}


def test_a_model_of_a_script_predicts_in_a_program_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answering(monkeypatch)
    spec = msgspec.structs.replace(file_spec(), task=ScriptTask("train"))
    path = export_module(tmp_path, nn.Linear(4, 2), spec, OWN)
    error = run("predict", str(path), "a.png", "--task", "train.py").exception
    assert isinstance(error, UserError)
    assert "use p2pfl.load(path, module=model) in a program" in str(error)


def test_real_pictures_are_classified_by_the_real_process(model: Path, tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "photos", range(3))
    files = [str(path) for path in sorted(folder.rglob("*.png"))]
    lines = run("predict", str(model), *files, "--device", "cpu").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == files
    assert all(line.split("  ")[1] in AGREEMENT.classes for line in lines)
