"""Writes an exported model in formats of other programs: ONNX and TorchScript.

Both take preprocessed inputs [batch, ...] of any batch size, and have the model's description in their
metadata. TorchScript comes from tracing: torch advises `torch.export` in its place, whose files only Python
can load so far.
"""

from __future__ import annotations

import logging
import uuid
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from p2pfl.errors import TaskError, UserError
from p2pfl.learning.exports.exported import LoadedModel
from p2pfl.learning.exports.model_info import KEY
from p2pfl.learning.tables.encoding import inputs_of
from p2pfl.paths import shown
from p2pfl.text import one_line

EXAMPLES = 2
"""Examples that pass through a model while it is traced. torch takes a batch of 1 for a fixed size."""


def write_onnx(model: LoadedModel, path: Path, *, force: bool) -> None:
    """Write *model* to *path* for ONNX; its input is called "input", its output "output".

    Raises:
        UserError: the extra packages are missing, the file exists and *force* is not set, or it cannot be
            written.
        TaskError: torch cannot export the model.
    """
    _check_target(path, force=force)
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--onnx needs the package {error.name}, which is not installed: pip install 'p2pfl-lan[onnx]'"
        ) from error
    inputs = example_inputs(model)

    def write(half: Path) -> None:
        program = torch.onnx.export(
            model.module,
            (inputs,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["input"],
            output_names=["output"],
            verbose=False,
        )
        assert program is not None
        program.model.metadata_props.update(model.info.metadata())
        program.save(half)

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    _convert("ONNX", path, write)


def write_torchscript(model: LoadedModel, path: Path, *, force: bool) -> None:
    """Write *model* to *path* as TorchScript; the description is its extra file "p2pfl".

    Raises:
        UserError: the file exists and *force* is not set, or it cannot be written.
        TaskError: torch cannot trace the model.
    """
    _check_target(path, force=force)
    inputs = example_inputs(model)

    def write(half: Path) -> None:
        traced = torch.jit.trace(model.module, inputs)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, half, _extra_files={KEY: model.info.metadata()[KEY]})

    _convert("TorchScript", path, write)


def example_inputs(model: LoadedModel) -> Tensor:
    """Return inputs of the shape that *model* takes: [`EXAMPLES`, ...] float32.

    Raises:
        TaskError: the shape is not known.
    """
    info = model.info
    shape = info.input_shape
    if info.target is not None:
        shape = (inputs_of(info.agreement()),)
    if not shape:
        raise TaskError(
            "The shape of this model's inputs is not known, so it cannot be exported: use torch.export with "
            "an input of your own on p2pfl.load(..)."
        )
    return torch.zeros(EXAMPLES, *shape, device=model.device)


def _check_target(path: Path, *, force: bool) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{shown(path)} cannot be written: it is a folder, or its folder does not exist")
    if path.exists() and not force:
        raise UserError(f"{shown(path)} exists already; choose another name, or add --force to replace it")


def _convert(name: str, path: Path, write: Callable[[Path], None]) -> None:
    """Write *path* with *write*; it is complete or absent.

    Raises:
        UserError: the file cannot be written.
        TaskError: torch cannot convert the model.
    """
    half = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # they are for the authors of torch
            write(half)
        half.replace(path)
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be written: {error.strerror or error}") from error
    except MemoryError:
        raise
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise TaskError(f"torch cannot export this model as {name}: {one_line(reason)}") from error
    finally:
        with suppress(OSError):
            half.unlink(missing_ok=True)
