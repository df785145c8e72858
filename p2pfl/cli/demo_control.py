"""How the terminal UI, a process of its own, has the demo kill and start nodes: through files in its folder.

`demo.json` says who takes part. The screen appends what is wanted to `demo.commands.jsonl`, and the demo
writes what came of it, and how models trained alone do, to `demo.events.jsonl`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from p2pfl.cli.demo_nodes import NodeProcess
from p2pfl.events import AnyEvent, Published
from p2pfl.runtime.publish import EventFile
from p2pfl.store.durable import disk_errors

NODES_FILE = "demo.json"
COMMANDS_FILE = "demo.commands.jsonl"
EVENTS_FILE = "demo.events.jsonl"

MAX_READ_BYTES = 64 * 1024
"""Of commands at one look: a person types them."""


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
        listed = [{"name": node.name, "data_dir": str(node.data_dir)} for node in nodes]
        about = {"nodes": listed, "command_file": str(self._commands_path)}
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
