"""`p2pfl evaluate` and `p2pfl predict`: use an exported model.

The model runs in a process of its own (`p2pfl.learning.exports.judging`): this one does not import torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from p2pfl.exit_codes import ExitCode

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A file that `p2pfl export` wrote.")]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where the model runs.")
]
TaskOption = Annotated[
    str | None, typer.Option("--task", metavar="FILE", help="The file that defines a model of your own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead, an object a line.")]


def evaluate(
    model: ModelArgument,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="A folder of class folders, or a table; without it, the test split of a built-in task.",
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            "--target", metavar="COLUMN", help="The column with the true values (default: the run's)."
        ),
    ] = "",
    task: TaskOption = None,
    data_root: Annotated[
        Path | None,
        typer.Option("--data-root", metavar="DIR", help="The folder with the data sets of built-in tasks."),
    ] = None,
    device: DeviceOption = "auto",
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="FILE", help="Draw the confusion matrix too; needs the extra plots."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Judge an exported model on data of yours: metrics, each class, confusion matrix."""
    from p2pfl.errors import UserError
    from p2pfl.learning.exports.judging import EvaluateModel, Judged, ask, code_of, path_of
    from p2pfl.learning.exports.model_info import read_info, task_label
    from p2pfl.report.judgement import judgement_fields, judgement_lines

    info = read_info(model)
    request = EvaluateModel(str(model), code_of(task), path_of(data), target, path_of(data_root), device)
    [judged] = ask(request)
    assert isinstance(judged, Judged)
    own = "personal model, " if info.is_personal else ""
    name = f"{task_label(info.task)}, {own}{info.architecture}, round {info.round} of run {info.run[:7]}"
    if json:
        fields = {"model": str(model), "run": info.run, "round": info.round, "data": judged.data}
        _print_json({**fields, **judgement_fields(judged.evaluation, info.classes, judged.confusion)})
    else:
        typer.echo(f"{_plain(name)}: {judged.evaluation.examples:,} examples, {_plain(judged.data)}")
        for line in judgement_lines(judged.evaluation, info.classes, judged.confusion):
            typer.echo(line)
    if png is not None:
        from p2pfl.report.figures import confusion_png
        from p2pfl.report.files import write_report

        if not judged.confusion:
            raise UserError("--png draws a confusion matrix, and this model has none: leave it out")
        write_report(png, confusion_png(judged.confusion, info.classes, name))
        typer.echo(f"Wrote {png}", err=json)


def predict(
    model: ModelArgument,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Pictures; tables, of which each row is predicted; or what the task reads.",
        ),
    ],
    task: TaskOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Classify pictures, or predict the rows of tables, with an exported model."""
    from p2pfl.errors import UserError
    from p2pfl.learning.exports.judging import Predicted, PredictInputs, Unreadable, ask, code_of
    from p2pfl.learning.exports.model_info import read_info
    from p2pfl.spec import ScriptTask

    info = read_info(model)
    if isinstance(info.task, ScriptTask):
        raise UserError(
            "this model is of a script, and only its code knows how to read inputs: use "
            "p2pfl.load(path, module=model) in a program"
        )
    if not info.reads_files and task is None:
        raise UserError(
            "this model is of a task of your own, and only its file knows how to read inputs: name it with "
            "--task FILE"
        )
    is_complete = True
    for answer in ask(PredictInputs(str(model), tuple(files), device, code_of(task))):
        if isinstance(answer, Unreadable):
            is_complete = False
            typer.echo(f"p2pfl: {_plain(answer.reason)}", err=True)
        elif isinstance(answer, Predicted):
            name = answer.file if not answer.row else f"{answer.file}:{answer.row}"
            if json:
                row = {"row": answer.row} if answer.row else {}
                found: dict[str, Any] = {"value": answer.value}
                if answer.text:
                    found = {"answer": answer.text}
                elif answer.label:
                    found = {"class": answer.label, "probability": answer.probability}
                _print_json({"file": answer.file, **row, **found})
            elif answer.text:
                typer.echo(f"{_plain(name)}  {_plain(answer.text)}")
            elif answer.label:
                typer.echo(f"{_plain(name)}  {_plain(answer.label)}  {answer.probability:.4f}")
            else:
                typer.echo(f"{_plain(name)}  {answer.value:.6g}")
    if not is_complete:
        raise typer.Exit(ExitCode.FAILED)


def _print_json(fields: dict[str, Any]) -> None:
    """Print one object a line, in ASCII: so no name can control a terminal."""
    import json

    typer.echo(json.dumps(fields))


def _plain(text: str) -> str:
    from p2pfl.text import one_line

    return one_line(text, 1000)
