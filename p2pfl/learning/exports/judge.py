"""The process that uses an exported model: `python -m p2pfl.learning.exports.judge`.

`p2pfl.learning.exports.judging` starts it. torch is imported after the request was read. What the user's code
or a library prints goes to standard error, because standard output carries the answers.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, assert_never

from p2pfl.errors import P2pflError, TaskError
from p2pfl.learning.choice import TABLE_SUFFIXES
from p2pfl.learning.exports.judging import (
    Answer,
    Converted,
    ConvertModel,
    EvaluateModel,
    Failed,
    Predicted,
    PredictInputs,
    Request,
    Unreadable,
    read_request,
    write_answer,
)
from p2pfl.paths import shown

if TYPE_CHECKING:
    from p2pfl.learning.exports.exported import LoadedModel

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in a shell."""


def main() -> None:
    """Answer the request on standard input."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("p2pfl").setLevel(logging.INFO)
    try:
        serve(read_request(sys.stdin.buffer.read()), answers)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os._exit(1)  # nobody reads the answers: nothing to flush


def serve(request: Request, answers: BinaryIO) -> None:
    """Write the answers to *request*, each at once."""
    try:
        for answer in answer_to(request):
            answers.write(write_answer(answer))
            answers.flush()
    except P2pflError as error:
        answers.write(write_answer(Failed(str(error))))
        answers.flush()


def answer_to(request: Request) -> Iterator[Answer]:
    """Yield the answers to *request*.

    Raises:
        P2pflError: it cannot be answered.
    """
    from p2pfl.learning.exports.exported import load
    from p2pfl.learning.own.code import describe_error, explain, is_lack_of_memory

    code = request.code
    device = "cpu" if isinstance(request, ConvertModel) else request.device
    try:
        from p2pfl.learning.training import choose_device

        model = load(request.model, task=code or None).to(choose_device(device))
        match request:
            case EvaluateModel():
                from p2pfl.learning.exports.judgement import judge

                yield judge(model, request)
            case PredictInputs():
                yield from predictions(model, request.files)
            case ConvertModel():
                yield from conversions(model, request)
            case _:
                assert_never(request)
    except Exception as error:
        explained = explain(error, code)
        if explained is not None:
            raise explained from error
        if code and isinstance(error, RuntimeError) and not is_lack_of_memory(error):
            raise TaskError(
                f"The model does not take what {Path(code).name} reads ({describe_error(error)}): are these "
                "data like those of the run?"
            ) from error
        raise


def predictions(model: LoadedModel, files: tuple[str, ...]) -> Iterator[Predicted | Unreadable]:
    """Yield the predictions for the pictures or tables *files*, or for what the user's task reads there.

    Raises:
        TaskError: a table cannot be read, or a file is none; or the user's task fails.
    """
    if model.info.target is not None:
        for file in files:
            if not file.lower().endswith(TABLE_SUFFIXES):
                raise TaskError(
                    f"This model predicts the rows of tables, and {shown(file)} is none "
                    f"({', '.join(TABLE_SUFFIXES)})."
                )
            for row, one in enumerate(model.predict(Path(file)), start=1):
                yield Predicted(file, row, one.label, one.probability, one.value)
    elif model.code is not None:
        for file in files:
            if not Path(file).exists():
                yield Unreadable(file, f"{shown(file)} does not exist.")
                continue
            found = model.predict(Path(file))
            for row, one in enumerate(found, start=1):
                number = row if len(found) > 1 else 0
                yield Predicted(file, number, one.label, one.probability, one.value, one.text)
    else:
        for file in files:
            try:
                [one] = model.predict(Path(file))
            except TaskError as error:
                yield Unreadable(file, str(error))
            else:
                yield Predicted(file, 0, one.label, one.probability, one.value)


def conversions(model: LoadedModel, request: ConvertModel) -> Iterator[Converted]:
    """Write *model* in the formats that *request* names, and yield each file.

    Raises:
        UserError: a package is missing, or a file cannot be written.
        TaskError: torch cannot export the model.
    """
    from p2pfl.learning.exports.conversion import write_onnx, write_torchscript

    if request.onnx:
        write_onnx(model, Path(request.onnx), force=request.force)
        yield Converted(request.onnx)
    if request.torchscript:
        write_torchscript(model, Path(request.torchscript), force=request.force)
        yield Converted(request.torchscript)


if __name__ == "__main__":
    main()
