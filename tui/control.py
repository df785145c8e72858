"""Controls the demo: kills and starts its nodes, through files that the demo process reads and writes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from p2pfl.demo.control import (
    COMMANDS_FILE,
    NODES_FILE,
    REPORTS_FILE,
    Command,
    DemoReport,
    LineReader,
    NodeList,
)
from p2pfl.errors import UserError


class DemoControl:
    """Sends commands to the demo in one folder and reads its reports."""

    def __init__(self, folder: Path) -> None:
        """Read the names of the demo's nodes.

        Raises:
            UserError: the folder has no demo.
        """
        try:
            demo = msgspec.json.decode((folder / NODES_FILE).read_bytes(), type=NodeList)
        except (OSError, msgspec.DecodeError) as error:
            raise UserError(f"{folder} holds no demo ({error}); give the --dir of `p2pfl demo`") from error
        self.names = tuple(node.name for node in demo.nodes)
        self._commands = folder / COMMANDS_FILE
        self._reports = LineReader(folder / REPORTS_FILE)

    def do(self, what: Literal["kill", "start"], name: str) -> None:
        """Ask the demo to "kill" or "start" the node *name*."""
        with self._commands.open("ab") as file:
            file.write(msgspec.json.encode(Command(what, name)) + b"\n")

    def read(self) -> list[DemoReport]:
        """Return the demo's reports since the last call."""
        return self._reports.read(DemoReport)
