"""The files in a demo's folder through which the demo and the terminal UI exchange messages.

They are two processes, and either may end before the other: files outlive both, on every system. The demo
lists its nodes there, reads the commands of the terminal UI (kill or start a node), and reports what no node
reports.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from p2pfl.events import AnyEvent, Published
from p2pfl.runtime.publish import EventFile
from p2pfl.store.durable import disk_errors

if TYPE_CHECKING:
    from p2pfl.demo.processes import NodeProcess

NODES_FILE = "demo.json"
"""Who takes part: `Listed`, as JSON."""

COMMANDS_FILE = "demo.commands.jsonl"
"""What the screen wants: one `Command` a line."""

EVENTS_FILE = "demo.events.jsonl"
"""What no node tells: events, as a node's events file has them."""

MAX_READ_BYTES = 64 * 1024
"""Of commands at one look: a person types them."""


class ListedNode(msgspec.Struct, frozen=True):
    """One node of the demo."""

    name: str
    data_dir: str


class Listed(msgspec.Struct, frozen=True):
    """Who takes part."""

    nodes: tuple[ListedNode, ...]


class Command(msgspec.Struct, frozen=True):
    """What somebody at the screen wants done to a node of the demo."""

    do: Literal["kill", "start"]
    node: str


class Control:
    """The demo's side of these files."""

    def __init__(self, folder: Path, nodes: Sequence[NodeProcess]) -> None:
        """Write the files anew: what an earlier demo in *folder* was told is over.

        Raises:
            DataDirectoryError: they cannot be written.
        """
        self._commands_path = folder / COMMANDS_FILE
        self._offset = 0
        self._seq = 0
        about = Listed(tuple(ListedNode(node.name, str(node.data_dir)) for node in nodes))
        with disk_errors("write", folder):
            (folder / NODES_FILE).write_bytes(msgspec.json.encode(about))
            self._commands_path.write_bytes(b"")
            (folder / EVENTS_FILE).write_bytes(b"")
        self._events = EventFile(str(folder / EVENTS_FILE))

    def commands(self) -> list[Command]:
        """Return what was wanted since the last call; lines that are no commands are left out."""
        with self._commands_path.open("rb") as file:
            file.seek(self._offset)
            whole, end, _ = file.read(MAX_READ_BYTES).rpartition(b"\n")
        self._offset += len(whole) + len(end)
        found = []
        for line in whole.splitlines():
            try:
                found.append(msgspec.json.decode(line, type=Command))
            except msgspec.DecodeError:
                continue
        return found

    def tell(self, event: AnyEvent) -> None:
        """Tell the screen something that no node tells."""
        self._seq += 1
        self._events.write(Published(self._seq, time.time(), event))

    def close(self) -> None:
        """Close the files."""
        self._events.close()
