"""The files in a demo's folder through which the demo and the terminal UI exchange messages.

They are two processes, and either may end before the other: files outlive both, on every system. The demo
lists its nodes there, reads the commands of the terminal UI (kill or start a node), and reports what no node
reports.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from p2pfl.events import Event, Notice
from p2pfl.store.durable import disk_errors

if TYPE_CHECKING:
    from p2pfl.demo.processes import NodeProcess

NODES_FILE = "demo.json"
"""The demo's nodes: a `NodeList`, as JSON."""

COMMANDS_FILE = "demo.commands.jsonl"
"""Commands of the terminal UI: one `Command` a line."""

REPORTS_FILE = "demo.events.jsonl"
"""What only the demo knows: one `DemoReport` a line."""

MAX_READ_BYTES = 64 * 1024
"""Read at a time: a person types commands, and a demo reports a few lines a minute."""

KindT = TypeVar("KindT", bound=msgspec.Struct)


class ListedNode(msgspec.Struct, frozen=True):
    """One node of the demo."""

    name: str
    data_dir: str


class NodeList(msgspec.Struct, frozen=True):
    """The nodes of the demo."""

    nodes: tuple[ListedNode, ...]


class Command(msgspec.Struct, frozen=True):
    """A command of the terminal UI to kill or start a node."""

    do: Literal["kill", "start"]
    node: str


class LocalOnlyModel(Event, frozen=True, tag="local_only_model"):
    """A model trained on one node's data only, for as many epochs as the whole run."""

    name: str
    """The node's."""
    examples: int
    value: float
    """The run's primary metric on the whole test split."""


class DemoLength(Event, frozen=True, tag="demo_length"):
    """How many rounds an endless demo trains; the run itself has more, which it never gets to."""

    rounds: int
    """0 while the demo goes on until it is ended."""


class DemoReport(msgspec.Struct, frozen=True):
    """Something that only the demo knows: a node was killed or started, a local-only model, its length."""

    time: float
    """Seconds since the epoch."""
    what: Notice | LocalOnlyModel | DemoLength


class LineReader:
    """Reads the lines that another process appends to a file, each once and only when it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self, kind: type[KindT]) -> list[KindT]:
        """Return what was appended since the last call; lines that hold no *kind* are left out."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._offset)
            whole, end, _ = file.read(MAX_READ_BYTES).rpartition(b"\n")
            self._offset += len(whole) + len(end)
            found = []
            for line in whole.splitlines():
                with contextlib.suppress(msgspec.DecodeError):
                    found.append(msgspec.json.decode(line, type=kind))
            return found
        return []


class Control:
    """The demo's side of these files: it reads commands and writes reports."""

    def __init__(self, folder: Path, nodes: Sequence[NodeProcess]) -> None:
        """Create the files, or empty those of an earlier demo in *folder*.

        Raises:
            DataDirectoryError: they cannot be written.
        """
        self._commands = LineReader(folder / COMMANDS_FILE)
        listed = NodeList(tuple(ListedNode(node.name, str(node.data_dir)) for node in nodes))
        with disk_errors("write", folder):
            (folder / NODES_FILE).write_bytes(msgspec.json.encode(listed))
            (folder / COMMANDS_FILE).write_bytes(b"")
            self._reports = (folder / REPORTS_FILE).open("wb", buffering=0)

    def commands(self) -> list[Command]:
        """Return the commands given since the last call."""
        return self._commands.read(Command)

    def report(self, what: Notice | LocalOnlyModel | DemoLength) -> None:
        """Report *what* to the terminal UI; a full disk costs only the report."""
        with contextlib.suppress(OSError):
            self._reports.write(msgspec.json.encode(DemoReport(time.time(), what)) + b"\n")

    def close(self) -> None:
        """Close the files."""
        self._reports.close()
