"""`p2pfl node --tui`: starts the node as a background process and opens the terminal UI on it.

The node keeps running when the terminal UI, the shell or the terminal is closed.
"""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from p2pfl.cli.tui import run_tui
from p2pfl.errors import NetworkError, UserError
from p2pfl.observe.client import Observer
from p2pfl.observe.target import Target, find_target
from p2pfl.programs import detached, start
from p2pfl.runtime.observing.endpoint import read_endpoint
from p2pfl.store.directory import DataDirectory
from p2pfl.store.durable import disk_errors, make_folder, open_private

OUTPUT_FILE = "node.out"
"""Output of the node's last start, in the folder of the logs."""

START_SECONDS = 60.0
"""Time limit until the node can be observed; an idle machine needs a second."""

POLL_SECONDS = 0.05

_NOT_PASSED = ("--tui", "--stay", "--theme", "--notify")
"""Words of the command line that the node in the background does not get."""

SHOWN_LINES = 10
"""Number of lines shown of a failed node's output, the last ones."""


def run_in_background(words: Sequence[str], data_dir: Path, screen: Sequence[str] = ()) -> int:
    """Start `p2pfl node` with the arguments *words* in the background, and run the terminal UI on it.

    *screen* are further arguments of the terminal UI.

    If a node runs on *data_dir* already, the terminal UI is opened on that one. Return the exit code.

    Raises:
        UserError: the node runs, but could not be observed in time.
        DataDirectoryError: the disk refused.
    """
    directory = DataDirectory(data_dir)
    process: subprocess.Popen[bytes] | None = None
    if _answers(data_dir):
        typer.echo(f"a node runs on {directory.path} already, and is shown; the other options are not used")
    else:
        process = _start(background_words(words), directory)
        code = _wait(process, directory)
        if code is not None:
            return _failed(code, directory)
    endpoint = read_endpoint(directory.observe_path)
    code = run_tui([f"--data-dir={data_dir}", *screen])
    ended = process.poll() if process is not None else None
    if ended is not None:
        return _failed(ended, directory)
    place = shlex.quote(str(data_dir))
    number = f" (process {endpoint.pid})" if endpoint is not None else ""
    typer.echo(f"the node is still running{number}; make it leave with `p2pfl leave --data-dir {place}`")
    return code


def background_words(words: Sequence[str]) -> list[str]:
    """Return the arguments of the node in the background.

    Those of the terminal UI are left out. `--stay` is added, so that the node can be observed after the run.
    Behind "--" are the arguments of a script, which stay as they are.
    """
    end = words.index("--") if "--" in words else len(words)
    kept: list[str] = []
    is_value = False
    for word in words[:end]:
        if not is_value and not word.startswith("--theme=") and word not in _NOT_PASSED:
            kept.append(word)
        is_value = not is_value and word == "--theme"
    return [*kept, "--stay", *words[end:]]


def _answers(data_dir: Path) -> bool:
    """Return whether a node runs on *data_dir* that this user can observe."""
    try:
        asyncio.run(_connect(find_target(data_dir=data_dir)))
    except (UserError, NetworkError):
        return False
    return True


async def _connect(target: Target) -> None:
    async with await Observer.connect(target, follow=False):
        pass


def _start(words: Sequence[str], directory: DataDirectory) -> subprocess.Popen[bytes]:
    make_folder(directory.path)
    make_folder(directory.logs_path)
    output_path = directory.logs_path / OUTPUT_FILE
    with disk_errors("write", output_path), open_private(output_path) as output:
        return start(
            "p2pfl",
            "node",
            *words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **detached(),
        )


def _wait(process: subprocess.Popen[bytes], directory: DataDirectory) -> int | None:
    """Wait until the node of *process* can be observed; return its exit code if it ends before that.

    Raises:
        UserError: it takes too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return process.returncode
        if _answers(directory.path):
            return None
        time.sleep(POLL_SECONDS)
    raise UserError(
        f"the node (process {process.pid}) runs, but could not be watched within {START_SECONDS:.0f} s: see "
        f"{directory.logs_path / OUTPUT_FILE}"
    )


def _failed(code: int, directory: DataDirectory) -> int:
    """Print how the node ended; return the exit code for this command."""
    path = directory.logs_path / OUTPUT_FILE
    text = path.read_text(encoding="utf-8", errors="backslashreplace") if path.exists() else ""
    for line in [line for line in text.splitlines() if line.strip()][-SHOWN_LINES:]:
        typer.echo(line, err=True)
    typer.echo(f"the node has ended with exit code {code}; all it printed is in {path}", err=True)
    return code if code >= 0 else 128 - code
