"""The files in a demo's folder through which the demo and the terminal UI over it speak with each other.

They are two processes, and either may end before the other: files outlive both, on every system.
"""

from __future__ import annotations

from typing import Literal

import msgspec

NODES_FILE = "demo.json"
"""Who takes part: `Listed`, as JSON."""

COMMANDS_FILE = "demo.commands.jsonl"
"""What the screen wants: one `Command` a line."""

EVENTS_FILE = "demo.events.jsonl"
"""What no node tells: events, as a node's events file has them."""


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
