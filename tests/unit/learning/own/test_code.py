from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from p2pfl.errors import TaskError
from p2pfl.learning.own import code
from p2pfl.learning.own.code import UserCode, describe_error, explain, load_user_code, takes
from tests.support.user_tasks import write_task

GOOD = """
def model():
    return 1

def data(place):
    return 2
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no module of a test behind."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def made(code: UserCode) -> Any:
    """Return what the function model() of a task returns."""
    return code.task.model()


def refusal(code: object) -> str:
    """Return why the task *code* cannot be loaded."""
    with pytest.raises(TaskError) as refused:
        load_user_code(str(code))
    return str(refused.value)


def test_a_file_with_functions_is_a_task(tmp_path: Path) -> None:
    code = load_user_code(str(write_task(tmp_path, GOOD)))
    assert made(code) == 1
    assert (code.task.data(None), code.task.loss) == (2, None)
    assert code.place(code.task.data, "data") == "mine.py, line 4, in data()"


def test_a_file_may_hold_its_task_as_an_object(tmp_path: Path) -> None:
    source = "import p2pfl\ntask = p2pfl.Task(model=lambda: 1, data=lambda: 2, classes=['a', 'b'])\n"
    code = load_user_code(str(write_task(tmp_path, source)))
    assert made(code) == 1
    assert (code.task.data(), [*code.task.classes]) == (2, ["a", "b"])


def test_a_task_of_a_package_is_found_by_its_name(tmp_path: Path) -> None:
    source = "import p2pfl\nours = p2pfl.Task(model=lambda: 1, data=lambda: 2)\nnumber = 3\n"
    path = write_task(tmp_path, source, "vision_package.py")
    sys.path.append(str(tmp_path))
    code = load_user_code("vision_package:ours")
    assert (made(code), code.file) == (1, path)
    assert refusal("vision_package:number") == (
        "vision_package:number is an int, and an object of the class p2pfl.Task is expected."
    )
    assert refusal("vision_package:none").startswith("vision_package:none is None, and an object")
    assert refusal("no_such_package.part:task") == (
        "The task no_such_package.part:task cannot be imported: there is no module 'no_such_package' in the "
        "environment of this p2pfl."
    )


def test_a_file_may_import_its_neighbours_and_have_the_name_of_a_package(tmp_path: Path) -> None:
    write_task(tmp_path, "NUMBER = 5\n", "neighbour_of_mine.py")
    path = write_task(
        tmp_path, "import neighbour_of_mine as n\nmodel = data = lambda: n.NUMBER\n", "torch.py"
    )
    torch = sys.modules["torch"]
    assert made(load_user_code(str(path))) == 5
    assert sys.modules["torch"] is torch


def test_the_digest_follows_from_the_bytes_of_the_file(tmp_path: Path) -> None:
    one = load_user_code(str(write_task(tmp_path, GOOD)))
    same = load_user_code(str(write_task(tmp_path, GOOD, "copy.py")))
    other = load_user_code(str(write_task(tmp_path, GOOD + "\n", "other.py")))
    assert len(one.digest) == 16
    assert one.digest == same.digest != other.digest


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("x = 1\n\ny = x / 0\n", "mine.py, line 3: ZeroDivisionError: division by zero"),
        ("def model(:\n", "mine.py, line 1: SyntaxError: invalid syntax"),
        (
            "import nothing_of_this_name\n",
            "mine.py, line 1: ModuleNotFoundError: No module named 'nothing_of_this_name'",
        ),
        ("import sys\nsys.exit('no licence')\n", "mine.py, line 2: SystemExit: no licence"),
        (
            "def model(): ...\n",
            "mine.py defines no data(); a task file defines model() and data(), or task = p2pfl.Task(model=..., "
            "data=...). `p2pfl task new FILE` writes one.",
        ),
        (GOOD + "loss = 3\n", "mine.py: loss is an int, and a function is expected."),
        (GOOD + "model = None\n", "mine.py: model is None, and a function is expected."),
        (
            GOOD + "classes = 'cat'\n",
            "mine.py: classes is a str; a list of names is expected, each of 1 to 64 characters.",
        ),
        (GOOD + "classes = ['a', 'a']\n", "mine.py: classes names a class twice."),
        (
            GOOD + "primary = 'dice'\n",
            "mine.py: primary is 'dice', and a metric with its direction is expected, such as (\"accuracy\", "
            '"max") or ("loss", "min").',
        ),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path: Path, source: str, sentence: str) -> None:
    assert refusal(write_task(tmp_path, source)) == sentence


def test_a_file_that_is_not_there_or_not_given_is_told() -> None:
    assert refusal("/no/such/file.py") == (
        "The task file /no/such/file.py does not exist; give the path of a Python file."
    )
    assert refusal("") == (
        "The run trains the model of a file, and this device was not given one; use --task FILE."
    )


def test_the_place_of_an_error_is_the_innermost_line_of_the_user(tmp_path: Path) -> None:
    source = """
    import json

    def model():
        return helper("{")

    def helper(text):
        return json.loads(text)

    data = model
    """
    code = load_user_code(str(write_task(tmp_path, source)))
    with pytest.raises(TaskError) as told, code.calling("model"):
        code.task.model()
    assert str(told.value).startswith(
        "mine.py, line 7, in helper(): JSONDecodeError: Expecting property name"
    )


def test_an_error_of_a_neighbour_is_told_with_the_name_of_its_file(tmp_path: Path) -> None:
    write_task(tmp_path, "def fail():\n    raise OSError('gone')\n", "neighbour_that_fails.py")
    path = write_task(tmp_path, "from neighbour_that_fails import fail\nmodel = data = fail\n")
    code = load_user_code(str(path))
    with pytest.raises(TaskError) as told, code.calling("data", "no argument"):
        code.task.data()
    assert str(told.value) == "neighbour_that_fails.py, line 2, in fail(): OSError: gone (given no argument)"


def failing(path: Path, call: Callable[[Any], object]) -> Exception:
    """Return the error that *call* raises with the task of the file *path*."""
    code = load_user_code(str(path))
    try:
        call(code.task)
    except Exception as error:  # noqa: BLE001
        return error
    raise AssertionError("nothing failed")


def test_only_errors_of_the_users_files_are_explained(tmp_path: Path) -> None:
    path = write_task(tmp_path, "def model():\n    raise MemoryError\ndef data():\n    raise KeyError('x')\n")
    own = explain(failing(path, lambda task: task.data()), str(path))
    assert str(own) == "mine.py, line 4, in data(): KeyError: 'x'"
    assert explain(failing(path, lambda task: task.model()), str(path)) is None
    assert explain(failing(path, lambda task: task.nothing), str(path)) is None
    assert explain(ValueError("x"), "") is None


def test_an_error_in_a_loader_process_has_its_line_too(tmp_path: Path) -> None:
    source = """
    class Broken:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            raise FileNotFoundError("no picture")

    def data():
        return Broken()

    model = data
    """
    path = write_task(tmp_path, source)
    error = failing(
        path, lambda task: list(DataLoader(task.data(), num_workers=1, multiprocessing_context="fork"))
    )
    assert str(explain(error, str(path))) == (
        "mine.py, line 6, in __getitem__(): FileNotFoundError: no picture"
    )


def test_what_an_error_says_is_one_line_that_fits_into_a_reason() -> None:
    assert describe_error(ValueError("one\ntwo")) == "ValueError: one"
    assert describe_error(KeyError()) == "KeyError"
    assert len(describe_error(ValueError("x" * 1000))) == code.MAX_CAUSE < 300


class _Net:
    def __init__(self, hidden: int = 3) -> None:
        self.hidden = hidden


@pytest.mark.parametrize(
    ("hook", "takes_it"),
    [
        (lambda: 0, False),
        (lambda agreed: 0, True),
        (lambda anything: 0, True),
        (lambda hidden=3: 0, False),
        (lambda agreed=None: 0, True),
        (lambda *, agreed=None: 0, False),
        (lambda *everything: 0, True),
        (_Net, False),
        (dict, False),
    ],
)
def test_a_function_gets_the_argument_that_it_takes(hook: Callable[..., Any], takes_it: bool) -> None:
    assert takes(hook, "agreed") == takes_it
