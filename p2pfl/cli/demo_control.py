"""How the terminal UI, a process of its own, has the demo kill and start nodes: through files in its folder.

The demo says there who takes part, follows what the screen wants, and tells what came of it and how models
trained alone do (`demo_files`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from p2pfl.cli.demo_files import COMMANDS_FILE, EVENTS_FILE, NODES_FILE, Command, Listed, ListedNode
from p2pfl.cli.demo_nodes import NodeProcess
from p2pfl.events import AnyEvent, Published
from p2pfl.runtime.publish import EventFile
from p2pfl.store.durable import disk_errors

MAX_READ_BYTES = 64 * 1024
"""Of commands at one look: a person types them."""


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
