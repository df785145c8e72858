"""Uses an exported model in a process of its own, since the command line must not import torch.

`ask` starts `python -m p2pfl.learning.exports.judge`, writes a request as JSON to its standard input, and
yields its answers, one JSON object a line, as they come. Its standard error is that of this process: warnings
and progress lines appear at once.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from p2pfl import programs
from p2pfl.errors import UserError, WorkerError
from p2pfl.messages import Evaluation
from p2pfl.paths import full

MODULE = "p2pfl.learning.exports.judge"


class EvaluateModel(msgspec.Struct, frozen=True, tag="evaluate"):
    """Evaluate a model; answered by one `Judged`."""

    model: str
    """The path of the exported model."""
    code: str = ""
    """The user's task: the path of a Python file, or `package.module:object`."""
    data: str = ""
    """A folder or a file; empty: the test split of a built-in task, or what the user's task returns."""
    target: str = ""
    """The column with the true values; empty: that of the run."""
    data_root: str = ""
    """The folder with the data sets of the built-in tasks; empty: the usual ones."""
    device: str = "auto"


class PredictInputs(msgspec.Struct, frozen=True, tag="predict"):
    """Predict pictures or the rows of tables; answered by a `Predicted` or `Unreadable` for each."""

    model: str
    files: tuple[str, ...]
    device: str = "auto"
    code: str = ""
    """As in `EvaluateModel`; then the files, or folders, are what the user's task reads."""


class ConvertModel(msgspec.Struct, frozen=True, tag="convert"):
    """Write a model in other formats; answered by a `Converted` for each."""

    model: str
    code: str = ""
    onnx: str = ""
    """The file to write; empty: none."""
    torchscript: str = ""
    """The file to write; empty: none."""
    force: bool = False
    """Whether a file that exists is replaced."""


Request = EvaluateModel | PredictInputs | ConvertModel


class Judged(msgspec.Struct, frozen=True, tag="judged"):
    """The evaluation of a model."""

    data: str
    """What it was evaluated on, in a few words."""
    evaluation: Evaluation
    confusion: tuple[tuple[int, ...], ...] = ()
    """Number of examples by true class (row) and predicted class; empty where there are no classes."""


class Predicted(msgspec.Struct, frozen=True, tag="predicted"):
    """The prediction for one input."""

    file: str
    row: int = 0
    """Number of the row in a table, or of the example that the user's task reads, from 1; 0 for a picture, or
    where there is one only."""
    label: str = ""
    """The most probable class; empty where numbers are predicted."""
    probability: float = 0.0
    value: float = 0.0
    """The predicted number."""
    text: str = ""
    """The answer of the user's task, in place of a class or a number."""


class Unreadable(msgspec.Struct, frozen=True, tag="unreadable"):
    """A picture that cannot be read, or a file that is not there; the others are predicted nevertheless."""

    file: str
    reason: str


class Converted(msgspec.Struct, frozen=True, tag="converted"):
    """A file with the model was written."""

    path: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The request cannot be answered; the reason is a sentence for the user."""

    reason: str


Answer = Judged | Predicted | Unreadable | Converted
"""What a request is answered by; `Failed` takes the place of all that would follow."""

read_request = msgspec.json.Decoder(Request).decode
_read_answer = msgspec.json.Decoder(Answer | Failed).decode
_write = msgspec.json.Encoder().encode


def write_answer(answer: Answer | Failed) -> bytes:
    """Return *answer* as a line."""
    return _write(answer) + b"\n"


def code_of(task: str | None) -> str:
    """Return the value of `--task` for another process: a file by its absolute path; empty without one."""
    if task is None:
        return ""
    return task if ":" in task and not task.endswith(".py") else str(full(Path(task)))


def path_of(path: Path | None) -> str:
    """Return *path* for another process, which has the same current folder; empty without one."""
    return str(path) if path is not None else ""


def ask(request: Request) -> Iterator[Answer]:
    """Yield the answers to *request*. The process ends with this generator.

    Raises:
        UserError: the request cannot be answered.
        WorkerError: the process ended without an answer.
    """
    process = programs.start(MODULE, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        try:
            process.stdin.write(_write(request))
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended; its exit code tells more
        for line in process.stdout:
            answer = _read_answer(line)
            if isinstance(answer, Failed):
                raise UserError(answer.reason)
            yield answer
        code = process.wait()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    if code:
        raise WorkerError(
            f"the process that uses the model ended unexpectedly (exit code {code}): its last lines above "
            "say why, or this device has too little memory"
        )
