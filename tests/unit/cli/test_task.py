from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from p2pfl.cards import CLASSIFICATION, DataCard, LabelCount, Measures
from p2pfl.cli.task import Kind, app, describe_card, describe_schema
from p2pfl.errors import P2pflError, TaskError, UserError
from p2pfl.learning.process import output_logger
from p2pfl.schema import TensorSpec, canonical
from tests.support.user_tasks import write_task


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the log of the worker's output as it was."""
    handlers, level = [*output_logger.handlers], output_logger.level
    yield
    output_logger.handlers[:] = handlers
    output_logger.setLevel(level)


def run(*arguments: str) -> str:
    """Return what `p2pfl task ARGUMENTS` prints; our own errors pass through, as they do to the main entry."""
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, P2pflError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("kind", [*Kind])
def test_new_writes_a_file_that_python_can_read(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "my_task.py"
    said = run("new", str(path), "--kind", kind.value)
    steps = {Kind.SCRIPT: f"demo --task {path}", Kind.STRATEGY: f"demo --strategy {path}:Careful"}
    assert f"Next: `p2pfl {steps.get(kind, f'task check {path}')}`" in said
    text = path.read_text(encoding="utf-8")
    compile(text, str(path), "exec")
    assert "my_task.py" in text.split('"""')[1]
    assert "FILE" not in text
    assert len(text.splitlines()) < 120


def test_new_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "my_task.py"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"my_task\.py exists and is not overwritten: choose another name"):
        run("new", str(path))
    assert path.read_text(encoding="utf-8") == "mine"
    with pytest.raises(UserError, match=r"my_task does not end in \.py"):
        run("new", str(tmp_path / "my_task"))


TASK = """
import torch
from torch import nn

print("loading the file")

def model(agreed):
    return nn.Linear(2, len(agreed.classes))

def data(place):
    x = torch.randn(40, 2)
    return x, (x[:, 0] > 0).long()
"""


def test_check_trains_alone_and_prints_what_it_saw(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_task(tmp_path, TASK)
    with caplog.at_level(logging.INFO, "p2pfl.worker"):
        said = run("check", str(path), "--data", str(tmp_path), "--classes", "left,right", "--device", "cpu")
    lines = {line.split()[0]: line for line in said.splitlines()}
    assert "36 examples to train, 4 held out; inputs 2" in lines["data"]
    assert "left (" in lines["classes"]
    assert (
        "loss cross-entropy; accuracy, loss; models are compared by accuracy, larger is better"
        in lines["measures"]
    )
    assert "6 parameters that train; 2 tensors, 152 bytes in each update" in lines["model"]
    assert "F32   2x2" in lines["weight"]
    assert lines["training"].startswith("training    20 steps in ")
    assert " examples/s; mean loss " in lines["training"]
    assert "evaluation  4 examples, " in lines["evaluation"]
    assert " MB" in lines["memory"]
    assert said.endswith("Nothing is wrong.\n")
    assert "loading the file" in caplog.messages


def test_check_says_what_is_wrong_in_which_line(tmp_path: Path) -> None:
    path = write_task(tmp_path, TASK.replace("x[:, 0] > 0", "x[:, 5] > 0"))
    with pytest.raises(TaskError) as refused:
        run("check", str(path), "--device", "cpu")
    assert str(refused.value) == (
        "mine.py, line 11, in data(): IndexError: index 5 is out of bounds for dimension 1 with size 2"
    )


def test_check_needs_a_task_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"digits is no task file: its name must end in \.py"):
        run("check", "digits")
    with pytest.raises(UserError, match="there is no such file"):
        run("check", str(tmp_path / "none.py"))


def test_a_long_card_and_a_long_schema_are_shortened() -> None:
    labels = tuple(LabelCount(f"c{number}", 2) for number in range(25))
    card = DataCard("mine", 50, labels, CLASSIFICATION, notes=("one picture is broken",))
    lines = describe_card(card, 5)
    assert lines[0] == "data        50 examples to train, 5 held out; inputs of varying shape"
    assert lines[1].endswith("c19 (2) and 5 more")
    assert lines[-1] == "warning     one picture is broken"
    schema = canonical([TensorSpec(f"layer{number}", "F32", ()) for number in range(14)])
    assert describe_schema(schema, 14)[-2:] == [
        "              layer7   F32   scalar",
        "              and 2 more",
    ]


def test_a_smaller_metric_may_be_the_better_one() -> None:
    card = DataCard("mine", 5, (), Measures("mse", ("loss",), "loss", "min"), input_shape=(3, 8, 8))
    assert describe_card(card, 1) == [
        "data        5 examples to train, 1 held out; inputs 3x8x8",
        "measures    loss mse; loss; models are compared by loss, smaller is better",
    ]
