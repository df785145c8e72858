"""The demo's nodes: killing and starting them, through files that the demo's own process reads and writes."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from p2pfl.errors import UserError
from p2pfl.events import Published
from p2pfl.runtime.follow import EventFollower

NODES_FILE = "demo.json"
COMMANDS_FILE = "demo.commands.jsonl"
EVENTS_FILE = "demo.events.jsonl"


class _Node(msgspec.Struct):
    name: str


class _Demo(msgspec.Struct):
    nodes: list[_Node]


class DemoControl:
    """The demo in one folder."""

    def __init__(self, folder: Path) -> None:
        """Read who takes part.

        Raises:
            UserError: the folder is no demo's.
        """
        try:
            demo = msgspec.json.decode((folder / NODES_FILE).read_bytes(), type=_Demo)
        except (OSError, msgspec.DecodeError) as error:
            raise UserError(f"{folder} holds no demo ({error}); give the --dir of `p2pfl demo`") from error
        self.names = tuple(node.name for node in demo.nodes)
        self._commands = folder / COMMANDS_FILE
        self._follower = EventFollower(folder / EVENTS_FILE)

    def do(self, what: str, name: str) -> None:
        """Ask the demo to "kill" or "start" the node *name*."""
        with self._commands.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"do": what, "node": name}) + "\n")

    def read(self) -> list[Published]:
        """Return what the demo itself told since the last call; its numbers are not the node's."""
        return [msgspec.structs.replace(one, seq=0) for one in self._follower.read()]
