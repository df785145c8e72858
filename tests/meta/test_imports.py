"""What sources may import and call: layers, the purity of the protocol, nothing that runs a peer's data."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source import ROOT, called, imported, modules

PURE = ("core", "wire", "messages.py", "proofs.py", "events.py", "schema.py", "text.py")
"""The protocol: the same inputs give the same outputs, on every device and in every simulation."""

PURE_IMPORTS = {
    "__future__", "abc", "blake3", "collections", "dataclasses", "enum", "functools", "hashlib", "itertools",
    "json", "math", "msgspec", "p2pfl", "typing",
}  # fmt: skip
"""All the protocol may import: nothing with a clock, a socket, a disk, a tensor or chance in it."""

IMPURE_CALLS = {"open", "print", "input", "hash", "id"}
"""Built in, and impure: `hash` of a text differs from process to process."""

CODE_FROM_DATA = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
"""Reading what these wrote can run any code the writer liked."""

CODE_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "torch.load",
    "numpy.load",
    "np.load",
    "os.system",
    "os.popen",
}


def faults_of_purity(tree: ast.AST) -> list[tuple[int, str]]:
    """Return line and name of what a module of the protocol must not have."""
    foreign = [(line, name) for line, name in imported(tree) if name.partition(".")[0] not in PURE_IMPORTS]
    return foreign + [(line, name) for line, name in called(tree) if name in IMPURE_CALLS]


def faults_of_trust(tree: ast.AST) -> list[tuple[int, str]]:
    """Return line and name of what could run code that came as data."""
    found = [(line, name) for line, name in imported(tree) if name.partition(".")[0] in CODE_FROM_DATA]
    found += [(line, name) for line, name in called(tree) if name in CODE_CALLS]
    found += [
        (node.value.lineno, "shell=True")
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "shell"
    ]
    return found


def test_imports_only_go_down() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("path", modules(*PURE), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_protocol_is_pure(path: Path) -> None:
    assert faults_of_purity(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_that_came_as_data_is_run(path: Path) -> None:
    assert faults_of_trust(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import time",
        "from time import monotonic",
        "def f():\n    import random",
        "x = hash('a')",
        "import os.path",
    ],
)
def test_an_impure_module_would_be_found(code: str) -> None:
    assert faults_of_purity(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(f)",
        "eval('1')",
        "subprocess.run(x, shell=True)",
    ],
)
def test_a_dangerous_module_would_be_found(code: str) -> None:
    assert faults_of_trust(ast.parse(code))
