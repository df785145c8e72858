"""Where the data of tasks lie on this device; nothing here reads them.

It stands apart from the tasks because the command line and `p2pfl doctor` say whether data are there without
importing torch. Where a device keeps its data is its own affair: none of this is part of a run.

The search order, for data that no dependency brings:

1. the folder of `--data-root`, and when one is given, only that;
2. the user's folder for data sets (`default_root`), which is also where a download goes;
3. the folder of the system's package, where there is one (Debian's `dataset-fashion-mnist`).

In each, files are looked for as torchvision lays them out (`ROOT/FashionMNIST/raw/...`) and, where their
names suffice, in the folder itself; each plain or, where that is usual, as `.gz`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import msgspec

from p2pfl.errors import TaskError
from p2pfl.paths import holds_file, obstacle, user_data


class DataPlaces(msgspec.Struct, frozen=True):
    """Where this device looks for data sets, and whether it may fetch them."""

    root: Path | None = None
    """The only folder to look in; None for the usual ones."""
    download: bool = False
    """Whether a data set that is not here is downloaded."""


class Bundled(msgspec.Struct, frozen=True):
    """A file that an installed package brings."""

    package: str
    file: str
    """Relative to the package's folder."""


class DataSet(msgspec.Struct, frozen=True):
    """Files that have to be put on a device."""

    torchvision: str
    """The class in `torchvision.datasets` whose downloader fetches them."""
    folder: str
    """Where torchvision keeps them, relative to its root."""
    files: tuple[str, ...]
    is_flat: bool = True
    """Whether the files may also lie in the root itself, each plain or as `.gz`."""
    system_folder: str | None = None
    """Where a package of the system puts them."""
    system_package: str | None = None
    """The name of that package."""


DataSource = Bundled | DataSet
"""How a task comes to its data."""


def default_root() -> Path | None:
    """Return where this user's data sets are kept: beside the data directories of nodes, not among them.

    None for a user without a home folder.
    """
    return user_data("p2pfl-datasets")


def locate(task: str, source: DataSource, places: DataPlaces) -> tuple[Path, ...]:
    """Return the paths of the files of *source*, the data of *task*, in the order it names them.

    Raises:
        TaskError: at least one is missing; the message says where they were looked for and how to get them.
    """
    if isinstance(source, Bundled):
        return (_locate_bundled(task, source),)
    folders = _folders(source, places)
    for folder in folders:
        paths = [_present(folder / name, source) for name in source.files]
        if None not in paths:
            return tuple(path for path in paths if path is not None)
    ways = ["--download", "--data-root with the folder they are in"]
    if source.system_package is not None:
        ways.insert(1, f"the Debian package {source.system_package}")
    where = ", ".join(_looked_into(folder) for folder in folders) or "no folder: this user has no home"
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
            f"The data of the task {task!r} are missing ({missing}): p2pfl was not installed whole. "
            "Install it again, as its README says."
        )
    return path


def _folders(source: DataSet, places: DataPlaces) -> list[Path]:
    """Return where the files of *source* may lie, in the order to look."""
    folders = []
    root = places.root or default_root()
    if root is not None:
        folders.append(root / source.folder)
        if source.is_flat:
            folders.append(root)
    if places.root is None and source.system_folder is not None:
        folders.append(Path(source.system_folder))
    return folders


def _looked_into(folder: Path) -> str:
    """Return *folder* for a message, with what kept this user from looking into it."""
    why = obstacle(folder)
    return f"{folder} ({why})" if why else str(folder)


def _present(path: Path, source: DataSet) -> Path | None:
    """Return *path*, or that of its `.gz`, whichever is there."""
    packed = path.with_name(path.name + ".gz")
    if holds_file(path):
        return path
    return packed if source.is_flat and holds_file(packed) else None
