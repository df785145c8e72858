"""Find the data files of a task on this device, without reading them.

This module is separate from the tasks because the command line and `p2pfl doctor` check for data without
importing torch. Each device keeps its data where its operator wants: these folders are not part of a run.

The files of a `DataSet` are searched for in this order:

1. in the folder of `--data-root`; if it is given, in no other place;
2. in the user's folder for data sets (`default_root`), which is also where downloads go;
3. in the folder of a system package, if the task names one (Debian's `dataset-fashion-mnist`).

In each place, the search covers torchvision's layout (`ROOT/FashionMNIST/raw/...`) and, if the file names are
distinctive enough (`DataSet.is_flat`), the folder itself, with each file plain or compressed as `.gz`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import msgspec

from p2pfl.errors import TaskError
from p2pfl.paths import holds_file, obstacle, user_data
from p2pfl.spec import SHARES, BuiltinTask, Share, TaskSpec, share_of


class DataPlaces(msgspec.Struct, frozen=True):
    """Where this device's data are: its private ones, and the data sets of the built-in tasks."""

    root: Path | None = None
    """The only folder to search; None: the user's folder and the system's."""
    download: bool = False
    """Whether a missing data set is downloaded."""
    own: Path | None = None
    """This device's private data, an absolute path: a folder or a file, the value of `--data`."""
    code: str = ""
    """The user's code: the absolute path of a Python file, or `package.module:object`."""
    strategy: str = ""
    """The user's strategy: the absolute path of a Python file, a colon and a class; empty without one."""
    task: tuple[str, str] | None = None
    """Kind and name of the task that this device was started for; None: any."""
    classes: tuple[str, ...] = ()
    """Classes that the user declares, the value of `--classes`; empty: those of the data."""
    share: Share = "labels"
    """The most that this device tells about its private data, the value of `--share`."""
    loader_workers: int = 0
    """Processes that load examples which are not in memory, the value of `--workers`."""

    def to_text(self) -> str:
        """Return these places as text, for the command line of the worker."""
        return msgspec.json.encode(msgspec.to_builtins(self, enc_hook=str)).decode()

    @classmethod
    def from_text(cls, text: str) -> DataPlaces:
        """Return the places that `to_text` wrote."""
        return msgspec.json.decode(text, type=cls, dec_hook=lambda kind, value: kind(value))


def check_share(task: TaskSpec, allowed: Share) -> None:
    """Refuse a run in which this device would tell more about its data than its user has *allowed*.

    Raises:
        TaskError: it would.
    """
    asked = share_of(task)
    if not isinstance(task, BuiltinTask) and SHARES.index(asked) > SHARES.index(allowed):
        raise TaskError(
            f"The run asks each device to tell {asked!r} about its data, and this device was started with "
            f"--share {allowed}; use the same --share on all devices."
        )


class Bundled(msgspec.Struct, frozen=True):
    """A data file that is part of an installed Python package."""

    package: str
    """Import name of the package."""
    file: str
    """Path relative to the package's folder."""


class DataSet(msgspec.Struct, frozen=True):
    """Data files that the operator or a download puts on a device."""

    torchvision: str
    """Name of the class in `torchvision.datasets` that downloads the files."""
    folder: str
    """Folder of the files in torchvision's layout, relative to its root."""
    files: tuple[str, ...]
    """File names, without `.gz`."""
    is_flat: bool = True
    """Whether the files may also be in the root itself, and each may be a `.gz`."""
    system_folder: str | None = None
    """Folder in which a system package installs the files; None: there is no such package."""
    system_package: str | None = None
    """Name of that system package."""


DataSource = Bundled | DataSet
"""Where the data of a task come from."""


def default_root() -> Path | None:
    """Return the user's folder for data sets; None for a user without a home folder.

    It is a sibling of the folder with the nodes' data directories, not a folder inside it.
    """
    return user_data("p2pfl-datasets")


def locate(task: str, source: DataSource, places: DataPlaces) -> tuple[Path, ...]:
    """Return the paths of the files of *source*, the data of *task*, in the order of *source*.

    Raises:
        TaskError: a file is missing; the message lists the folders searched and the ways to get the files.
    """
    if isinstance(source, Bundled):
        return (_locate_bundled(task, source),)
    folders = _folders(source, places)
    for folder in folders:
        paths = [_existing(folder / name, source) for name in source.files]
        if None not in paths:
            return tuple(path for path in paths if path is not None)
    ways = ["--download", "--data-root with the folder they are in"]
    if source.system_package is not None:
        ways.insert(1, f"the Debian package {source.system_package}")
    where = ", ".join(_with_obstacle(folder) for folder in folders) or "no folder: this user has no home"
    raise TaskError(
        f"The data of the task {task!r} are not on this device; use {', or '.join(ways)}. "
        f"Looked for {source.files[0]} and others in {where}."
    )


def _locate_bundled(task: str, source: Bundled) -> Path:
    """Find a package's file without importing the package."""
    found = importlib.util.find_spec(source.package)
    path = None if found is None or found.origin is None else Path(found.origin).parent / source.file
    if path is None or not holds_file(path):
        missing = source.package if path is None else path
        raise TaskError(
            f"The data of the task {task!r} are missing ({missing}): p2pfl is not completely installed. "
            "Install it again, as its README says."
        )
    return path


def _folders(source: DataSet, places: DataPlaces) -> list[Path]:
    """Return the folders that may hold the files of *source*, in search order."""
    folders = []
    root = places.root or default_root()
    if root is not None:
        folders.append(root / source.folder)
        if source.is_flat:
            folders.append(root)
    if places.root is None and source.system_folder is not None:
        folders.append(Path(source.system_folder))
    return folders


def _with_obstacle(folder: Path) -> str:
    """Return *folder* for a message, with the reason if this user cannot read it."""
    why = obstacle(folder)
    return f"{folder} ({why})" if why else str(folder)


def _existing(path: Path, source: DataSet) -> Path | None:
    """Return *path* or the path of its `.gz`, whichever exists; None if neither does."""
    if holds_file(path):
        return path
    packed = path.with_name(path.name + ".gz")
    return packed if source.is_flat and holds_file(packed) else None
