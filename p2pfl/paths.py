"""Looks at paths that users give or systems propose; a path that this user may not read counts as missing.

`pathlib` raises an error for a folder without permission or a name that is too long. Code that searches for a
file treats such a place as empty; only for a path that a user gave the reason is reported (`obstacle`).
"""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

from p2pfl.errors import UserError

_OBSTACLES = {
    errno.EACCES: "this user may not look into it or a folder above it",
    errno.EPERM: "this user may not look into it or a folder above it",
    errno.ENAMETOOLONG: "the path, or a name in it, is too long for this file system",
    errno.ELOOP: "its symbolic links lead in a circle",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
}


def holds_file(path: Path) -> bool:
    """Return whether *path* is a file that this user can access."""
    return os.path.isfile(path)  # noqa: PTH113 - never raises


def holds_folder(path: Path) -> bool:
    """Return whether *path* is a folder that this user can access."""
    return os.path.isdir(path)  # noqa: PTH112 - never raises


def is_there(path: Path) -> bool:
    """Return whether anything is at *path* that this user can access."""
    return os.path.exists(path)  # noqa: PTH110 - never raises


def folders_in(path: Path) -> list[Path]:
    """Return the folders in *path* in alphabetical order; none if this user may not read it."""
    try:
        return sorted(entry for entry in path.iterdir() if holds_folder(entry))
    except OSError:
        return []


def obstacle(path: Path) -> str:
    """Return why this user cannot access *path*; empty if it is accessible or simply missing."""
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ENOENT:
            return ""
        return _OBSTACLES.get(error.errno or 0, error.strerror or str(error))
    except ValueError:
        return "it has a character that no path can have"
    return _OBSTACLES[errno.EACCES] if holds_folder(path) and not os.access(path, os.X_OK) else ""


def full(path: Path) -> Path:
    """Return *path* as an absolute path, with `~` expanded.

    Raises:
        UserError: there is no such home folder, or the path is not text.
    """
    try:
        found = path.expanduser().absolute()
    except RuntimeError as error:
        raise UserError(
            f"{path} cannot be found: there is no such user's home folder; write the path out"
        ) from error
    except FileNotFoundError as error:
        raise UserError(
            f"{path} cannot be found: the current folder was removed; change to one that exists"
        ) from error
    if not is_text(found):
        raise UserError(
            f"the path {shown(found)} is no valid UTF-8, and paths are passed on as text: choose another, or "
            "use a UTF-8 locale such as LANG=C.UTF-8"
        )
    return found


def user_data(name: str) -> Path | None:
    """Return the folder *name* in this user's application data; None for a user without a home folder."""
    import platformdirs

    try:
        path = platformdirs.user_data_path(name, appauthor=False)
    except RuntimeError:  # newer versions raise, older ones leave the ~ in
        return None
    return path if path.is_absolute() and is_text(path) else None


def user_config(name: str) -> Path | None:
    """Return the folder *name* of this user's configuration; None for a user without a home folder."""
    import platformdirs

    try:
        path = platformdirs.user_config_path(name, appauthor=False)
    except RuntimeError:  # newer versions raise, older ones leave the ~ in
        return None
    return path if path.is_absolute() and is_text(path) else None


def shown(path: Path | str) -> str:
    """Return *path* as printable text, with undecodable bytes escaped."""
    return os.fsencode(path).decode(errors="backslashreplace")


def quoted(path: Path | str) -> str:
    """Return *path* quoted for a shell, so that people can copy it."""
    return shlex.quote(shown(path))


def is_text(path: Path | str) -> bool:
    """Return whether *path* can be written as UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
