"""Load a user's task from a Python file or a package, and say where in their code an error arose.

A sentence about the user's code begins with its place: `my_task.py, line 12, in data(): ValueError: ..`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from blake3 import blake3

from p2pfl.errors import P2pflError, TaskError
from p2pfl.learning.own.interface import OPTIONAL, PREDICTING, Task
from p2pfl.learning.own.mistakes import line_of, misspelled

MAX_CAUSE = 180
"""Maximum number of characters quoted from the text of an error in the user's code: with the place before it,
the sentence must fit into 300 characters."""

_FRAME = re.compile(r'^  File "(.*)", line (\d+), in (.*)$', re.MULTILINE)
"""A line of a traceback as text, which torch's loader processes send in place of a traceback."""

_LOADER_ERROR = "Original Traceback (most recent call last):"


class UserCode:
    """A task of the user's own, and the files that it consists of."""

    def __init__(self, task: Task, file: Path) -> None:
        self.task = task
        self.file = file
        """The file in which the task is defined."""
        self.warnings: dict[str, None] = {}
        """Sentences about likely mistakes, in the order in which they were found."""

    @property
    def digest(self) -> str:
        """Short digest of the file's bytes."""
        return blake3(self.file.read_bytes()).hexdigest()[:16]

    def place(self, hook: Callable[..., Any], name: str) -> str:
        """Return the place of *hook* for people: "my_task.py, line 12, in data()"."""
        return place_of(hook, name, self.file)

    def defined(self, name: str, hook: str) -> str:
        """Return where *name*, which is no function, is defined; the place of *hook* if that is not found."""
        line = line_of(self.file, name)
        return f"{self.file.name}, line {line}" if line else self.place(getattr(self.task, hook), hook)

    def wrong(self, name: str, what: str) -> TaskError:
        """Return the error that the function *name* of the task does *what*, such as "returned None; ..."."""
        return TaskError(f"{self.place(getattr(self.task, name), name)}: {what}")

    @contextlib.contextmanager
    def calling(self, name: str, given: str = "") -> Iterator[None]:
        """Explain every error that arises while the function *name* of the task is executed.

        *given* describes its arguments, if these may be the reason.

        Raises:
            TaskError: with the place in the user's code.
        """
        try:
            yield
        except P2pflError:
            raise
        except (Exception, SystemExit) as error:
            if is_lack_of_memory(error):
                raise
            where = find_place(error, self.file) or self.place(getattr(self.task, name), name)
            raise TaskError(f"{where}: {describe_error(error)}{given and f' (given {given})'}") from error


def load_user_code(code: str) -> UserCode:
    """Load the task *code*: the path of a Python file, or `package.module:object`.

    Raises:
        TaskError: there is no such file or object, its code fails, or it lacks a function.
    """
    if not code:
        raise TaskError(
            "The run trains the model of a file, and this device was not given one; use --task FILE."
        )
    path = Path(code)
    if path.is_file():
        module = load_file(path)
        named = getattr(module, "task", None)
        if isinstance(named, Task):
            return UserCode(checked_task(named, path), path)
        found = UserCode(checked_task(_from_module(module, path), path), path)
        found.warnings.update(dict.fromkeys(misspelled(path)))
        return found
    package, colon, name = code.rpartition(":")
    if not colon or path.suffix == ".py":
        raise TaskError(f"The task file {code} does not exist; give the path of a Python file.")
    return _load_object(package, name)


def place_of(hook: Callable[..., Any], name: str, file: Path) -> str:
    """Return the place of *hook*, called *name*, for people: "my_task.py, line 12, in data()".

    Without a line if it is not in the files of the user, of which *file* is one.
    """
    code = getattr(inspect.unwrap(hook), "__code__", None)
    if code is None and isinstance(hook, type):
        code = getattr(vars(hook).get("__init__"), "__code__", None)
    if code is None or not is_users(code.co_filename, file):
        return f"{file.name}, in {name}()"
    return f"{Path(code.co_filename).name}, line {code.co_firstlineno}, in {name}()"


def find_place(error: BaseException, file: Path) -> str:
    """Return the innermost place of *error* in the files of the user: "my_task.py, line 12, in data()".

    Empty if it arose elsewhere.
    """
    if isinstance(error, SyntaxError) and error.filename and is_users(error.filename, file):
        return f"{Path(error.filename).name}, line {error.lineno}"
    if _LOADER_ERROR in str(error):
        text = str(error).partition(_LOADER_ERROR)[2]
        frames = [(match[1], int(match[2]), match[3]) for match in _FRAME.finditer(text)]
    else:
        found = traceback.walk_tb(error.__traceback__)
        frames = [(one.f_code.co_filename, line, one.f_code.co_name) for one, line in found]
    own = [frame for frame in frames if is_users(frame[0], file)]
    if not own:
        return ""
    name, line, function = own[-1]
    where = f"{Path(name).name}, line {line}"
    return where if function.startswith("<") else f"{where}, in {function}()"


def explain(error: Exception, code: str) -> TaskError | None:
    """Return *error* with its place in the user's task *code*; None if it did not arise there.

    Errors that p2pfl raises on purpose and a lack of memory have explanations of their own.
    """
    if not code or isinstance(error, P2pflError) or is_lack_of_memory(error):
        return None
    file = _file_of(code)
    where = find_place(error, file) if file is not None else ""
    return TaskError(f"{where}: {describe_error(error)}") if where else None


def describe_error(error: BaseException) -> str:
    """Return *error* in one line: its type and what it says."""
    text = str(error)
    if _LOADER_ERROR in text:  # the last line repeats type and text
        return text.strip().splitlines()[-1][:MAX_CAUSE]
    if isinstance(error, SyntaxError):
        text = error.msg
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"[:MAX_CAUSE].rstrip(": ")


def takes(hook: Callable[..., Any], name: str) -> bool:
    """Return whether *hook* is called with the argument *name*, by position: it names or needs it."""
    try:
        parameters = inspect.signature(hook).parameters.values()
    except (TypeError, ValueError):  # a class or function written in C
        return False
    return any(
        one.kind is one.VAR_POSITIONAL
        or (
            one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
            and (one.name == name or one.default is one.empty)
        )
        for one in parameters
    )


def is_users(name: str, file: Path) -> bool:
    """Return whether the source file *name* is *file* or lies in its folder, outside installed packages."""
    path = Path(name)
    if path == file:
        return True
    return path.is_relative_to(file.parent) and not {"site-packages", "dist-packages"} & set(path.parts)


def is_lack_of_memory(error: BaseException) -> bool:
    """Return whether the worker explains *error* better: a smaller batch may help."""
    return isinstance(error, MemoryError) or "out of memory" in str(error)


def _file_of(code: str) -> Path | None:
    """Return the file of the task *code*, which is loaded; None if it has none."""
    if Path(code).is_file():
        return Path(code)
    module = sys.modules.get(code.rpartition(":")[0])
    return Path(module.__file__) if module is not None and module.__file__ else None


def load_file(path: Path, kind: Literal["task", "strategy"] = "task") -> ModuleType:
    """Execute the file *path* of a *kind* as a module of its name; that of a strategy has a longer name.

    So a task and a strategy may be in one file.

    Its folder is added to the end of the module search path: it may import its neighbours, and processes that
    load examples may import it.
    """
    folder, name = str(path.parent), path.stem
    if folder not in sys.path:
        sys.path.append(folder)
    importlib.invalidate_caches()
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    if kind == "strategy" or found is None or found.origin != str(path):  # another module has this name
        name = f"p2pfl_{kind}_{name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TaskError(f"The {kind} file {path} is no Python file; its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if isinstance(error, P2pflError):
            raise TaskError(f"{find_place(error, path) or path.name}: {error}") from error
        raise TaskError(f"{find_place(error, path) or path.name}: {describe_error(error)}") from error
    return module


def _from_module(module: ModuleType, path: Path) -> Task:
    """Return the task whose functions are in *module*."""
    missing = [name for name in ("model", "data") if not hasattr(module, name)]
    if missing:
        functions = " and ".join(f"{name}()" for name in missing)
        raise TaskError(
            f"{path.name} defines no {functions}; a task file defines model() and data(), or "
            "task = p2pfl.Task(model=..., data=...). `p2pfl task new FILE` writes one."
        )
    found = {name: getattr(module, name) for name in ("model", "data", *OPTIONAL) if hasattr(module, name)}
    for name in PREDICTING:
        if callable(hook := getattr(module, name, None)):
            found[name] = hook
    return Task(**found)


def checked_task(task: Task, path: Path) -> Task:
    """Return *task* if its parts are of the kinds that they must be."""
    for name in ("model", "data", *OPTIONAL, *PREDICTING):
        value = getattr(task, name)
        is_optional = value is None and name not in ("model", "data")
        if name not in ("primary", "classes") and not is_optional and not callable(value):
            raise TaskError(f"{path.name}: {name} is {a(value)}, and a function is expected.")
    classes = task.classes
    if isinstance(classes, str) or not all(isinstance(name, str) and 0 < len(name) <= 64 for name in classes):
        raise TaskError(
            f"{path.name}: classes is {a(classes)}; a list of names is expected, each of 1 to 64 characters."
        )
    if len(set(classes)) < len(classes):
        raise TaskError(f"{path.name}: classes names a class twice.")
    if task.primary is not None and not (
        isinstance(task.primary, tuple) and len(task.primary) == 2 and task.primary[1] in ("max", "min")
    ):
        raise TaskError(
            f"{path.name}: primary is {task.primary!r}, and a metric with its direction is expected, such as "
            '("accuracy", "max") or ("loss", "min").'
        )
    return task


def _load_object(package: str, name: str) -> UserCode:
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is not None and (package == error.name or package.startswith(f"{error.name}.")):
            raise TaskError(
                f"The task {package}:{name} cannot be imported: there is no module {error.name!r} in the "
                "environment of this p2pfl."
            ) from error
        raise TaskError(f"The task {package}:{name} cannot be imported: {describe_error(error)}") from error
    except Exception as error:
        raise TaskError(f"The task {package}:{name} cannot be imported: {describe_error(error)}") from error
    if not isinstance(module.__file__, str):
        raise TaskError(f"The task {package}:{name} cannot be used: the module {package} has no file.")
    task = getattr(module, name, None)
    if not isinstance(task, Task):
        raise TaskError(f"{package}:{name} is {a(task)}, and an object of the class p2pfl.Task is expected.")
    path = Path(module.__file__)
    return UserCode(checked_task(task, path), path)


def a(value: object) -> str:
    """Return the type of *value* for a sentence: "None", "a Linear", "an int", "a tuple of 3"."""
    if value is None:
        return "None"
    name = type(value).__name__
    article = "an" if name[0].lower() in "aeiou" else "a"
    length = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"{article} {name}{length}"
