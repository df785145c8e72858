"""The demo's nodes: killing and starting them, through files that the demo's own process reads and writes."""

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
    """The demo in one folder."""

    def __init__(self, folder: Path) -> None:
        """Read who takes part.

        Raises:
            UserError: the folder is no demo's.
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
        """Return what the demo itself reported since the last call."""
        return self._reports.read(DemoReport)
