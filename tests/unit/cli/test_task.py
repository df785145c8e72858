from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from p2pfl.cli.task import Kind, app
from p2pfl.errors import P2pflError, TaskError, UserError
from p2pfl.learning.process import output_logger
from p2pfl.learning.scripts.child import script_logger
from tests.support.user_tasks import write_task


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the logs of the output of workers and scripts as they were."""
    before = [(log, [*log.handlers], log.level) for log in (output_logger, script_logger)]
    yield
    for log, handlers, level in before:
        log.handlers[:] = handlers
        log.setLevel(level)


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
    assert f"Next: `p2pfl task check {path}`" in said
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


SCRIPT = """
import sys
import torch
import p2pfl
from torch import nn

print("arguments", *sys.argv[1:])
model = nn.Linear(2, 2)
inputs = torch.randn(40, 2)
targets = (inputs[:, 0] > 0).long()

def evaluate(model):
    right = (model(inputs).argmax(1) == targets).float()
    return {"accuracy": right.mean(), "examples": 40}

for round in p2pfl.rounds(model, metrics=evaluate):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    nn.functional.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
    round.submit(examples=40, loss=0.25)
"""


def test_check_runs_a_script_for_two_rounds_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_task(tmp_path, SCRIPT + "print('after', round.number, 'of', round.rounds)\n")
    with caplog.at_level(logging.INFO, "p2pfl.script"):
        said = run("check", str(path), "--", "--depth", "3")
    lines = [line for line in said.splitlines() if not line.startswith("  | ")]
    assert lines[0] == "data        the script's own; its metrics are of 40 examples"
    assert "accuracy; models are compared by accuracy, larger is better" in lines[1]
    assert "6 parameters that train; 2 tensors" in lines[2]
    assert [line.split()[0] for line in lines[5:]] == ["training", "evaluation"] * 2 + ["memory", "Nothing"]
    assert lines[5].startswith("training    40 examples in ")
    assert lines[5].endswith("loss 0.25")
    assert "warning" not in said
    assert {"arguments --depth 3", "after 2 of 2"} <= set(caplog.messages)


@pytest.mark.long
@pytest.mark.xdist_group("task check")
@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("inputs = torch.randn(40, 2)", "inputs = open('none')", "mine.py, line 8: FileNotFoundError: "),
        ("optimizer.step()", "optimizer.stop()", "mine.py, line 18: AttributeError: "),
        ("loss=0.25)", "loss=0.25)\n    break", "mine.py ended before the run was over"),
        (
            "loss=0.25)",
            "loss=0.25)\nimport nothing",
            "After the last round, mine.py, line 20: ModuleNotFound",
        ),
    ],
    ids=["before the loop", "in the loop", "breaks", "after the loop"],
)
def test_check_says_where_a_script_fails(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    path = write_task(tmp_path, SCRIPT.replace(old, new))
    with pytest.raises(TaskError) as refused:
        run("check", str(path))
    assert str(refused.value).startswith(sentence)


@pytest.mark.long
@pytest.mark.xdist_group("task check")
def test_check_warns_of_a_script_that_trains_or_measures_nothing(tmp_path: Path) -> None:
    still = SCRIPT.replace("optimizer.step()", "pass").replace(", metrics=evaluate", "")
    said = run("check", str(write_task(tmp_path, still)))
    assert said.count("warning     the training has changed no weight") == 2
    assert said.count("warning     the script measures nothing") == 2
    assert said.endswith("Nothing else is wrong.\n")


def test_options_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    path = write_task(tmp_path, SCRIPT)
    with pytest.raises(UserError, match=r"--batch-size has no effect on a script, whose own loop decides"):
        run("check", str(path), "--batch-size", "8")
    path = write_task(tmp_path, TASK)
    with pytest.raises(UserError, match=r"'more' is one word too many: only a script has arguments"):
        run("check", str(path), "more")


def test_check_tries_a_strategy_in_a_short_simulation(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    run("new", str(path), "--kind", "strategy")
    said = run("check", str(path), "--strategy-arg", "step=0.5").splitlines()
    assert said[0] == "strategy    mine.py:Careful needs 3 updates"
    assert said[3].startswith("round 3     accuracy 0.")
    assert said[4] == "Nothing is wrong."
    with pytest.raises(UserError, match=r"has no argument 'stp' \(did you mean 'step'\?\)"):
        run("check", f"{path}:Careful", "--strategy-arg", "stp=0.5")
    with pytest.raises(UserError, match="--batch-size has no effect on a strategy"):
        run("check", str(path), "--batch-size", "3")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("median = ", "median = 1 / 0 + "), encoding="utf-8")
    with pytest.raises(UserError, match=r"mine.py, line \d+, in combine\(\): ZeroDivisionError"):
        run("check", str(path))


def test_arguments_of_a_strategy_are_of_no_use_for_a_task(tmp_path: Path) -> None:
    path = write_task(tmp_path, TASK)
    with pytest.raises(UserError, match=r"--strategy-arg step=1 is for a strategy, and .* has none"):
        run("check", str(path), "--strategy-arg", "step=1")
