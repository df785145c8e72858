"""Directs a demo: what is said about what happens and why, whom it kills, and when it has shown enough.

Pure: it takes events and times, and returns sentences and commands.
"""

from __future__ import annotations

from typing import NamedTuple

from p2pfl import events
from p2pfl.demo.control import Command
from p2pfl.events import Published

ENDLESS_ROUNDS = 100
"""Rounds of a demo on the screen that ends when somebody has killed a node and started it again."""

ROUNDS_AFTER = 2
"""Rounds that such a demo goes on after the node is back."""

REVIVE_SECONDS = 15.0
"""A node killed by `--kill-at` is started again after the next commit, or after this time without one."""


class Plan(NamedTuple):
    """How a demo goes."""

    nodes: tuple[str, ...]
    pace: float = 0.0
    """Minimum seconds of a training, so that it can be watched."""
    is_endless: bool = False
    """Whether it goes on until somebody has killed and started a node."""
    kill_at: int | None = None
    """The round in which the last node is killed; None for no round."""
    is_compared: bool = True
    """Whether the model is compared with models trained alone; that of a script is not."""


class Director:
    """Directs one demo."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._said: set[str] = set()
        self._dead: set[str] = set()
        self._round = 0
        """The last committed training round."""
        self._ends_after: int | None = None
        """The round after which an endless demo has shown enough."""
        self._killed_at: float | None = None
        """When `--kill-at` killed its node; None before, and when it was started again."""
        self._is_kill_done = plan.kill_at is None
        self._is_over = False

    def opening(self) -> list[str]:
        """Return what is said when the nodes have been started."""
        plan = self._plan
        said = ["each node trains on its own part of the data, which never leaves it: only models are sent"]
        if plan.pace:
            said.append(f"slowed down to be watched: a training takes at least {plan.pace:g} s (--pace)")
        if plan.is_endless:
            said.append(
                "it goes on until you have killed a node and started it again: select one and press k, twice"
            )
        if plan.kill_at is not None:
            said.append(
                f"{plan.nodes[-1]} will be killed in round {plan.kill_at}, and started again (--kill-at)"
            )
        return said

    def take(self, item: Published) -> list[str]:
        """Take an event of any node; return what is said about it."""
        match item.event:
            case events.RunJoined():
                return self._once("all nodes have the same first model, and each trains it on its own data")
            case events.Elected(kind="train"):
                return self._once(
                    "there is no server: each round the nodes elect one of them, which averages their updates"
                )
            case events.Committed(kind="train", is_late=False) as committed:
                self._round = max(self._round, committed.trained)
                return self._once(
                    "more than half of the nodes have accepted the average: it is the next model of all"
                )
            case events.RunEnded():
                self._is_over = True
                if not self._plan.is_compared:
                    return []
                return self._once("the model is now compared with models trained on one node's data alone")
            case _:
                return []

    def note_killed(self, name: str) -> list[str]:
        """Take that *name* was killed; return what is said about it."""
        self._dead.add(name)
        count = len(self._plan.nodes)
        left, needed = count - len(self._dead), count // 2 + 1
        if left >= needed:
            return [
                f"{left} of {count} nodes are left and {needed} are needed: the round goes on without {name}"
            ]
        return [
            f"{left} of {count} nodes are left and {needed} are needed: nothing commits until one is back"
        ]

    def note_started(self, name: str) -> list[str]:
        """Take that *name* was started again; return what is said about it."""
        self._dead.discard(name)
        said = [f"{name} gets from the others what it has missed, and trains on"]
        if self._plan.is_endless and self._ends_after is None:
            self._ends_after = self._round + ROUNDS_AFTER
            said.append(f"you have seen a node go and come back: the run ends after round {self._ends_after}")
        return said

    def commands(self, training_round: int, now: float) -> list[Command]:
        """Return which nodes to kill or start *now*; *training_round* is the one that is open."""
        name = self._plan.nodes[-1]
        if not self._is_kill_done and self._plan.kill_at is not None and training_round >= self._plan.kill_at:
            self._is_kill_done, self._killed_at = True, now
            return [Command("kill", name)]
        if self._killed_at is not None and self._plan.kill_at is not None:
            is_seen = self._round >= self._plan.kill_at or now - self._killed_at >= REVIVE_SECONDS
            if is_seen and not self._is_over:
                self._killed_at = None
                return [Command("start", name)]
        return []

    @property
    def has_shown_enough(self) -> bool:
        """Whether the run of an endless demo should end with the open round."""
        is_due = self._ends_after is not None and self._round + 1 >= self._ends_after
        return is_due and not self._is_over

    @property
    def rounds(self) -> int | None:
        """Rounds that an endless demo trains, 0 while it goes on until it is ended; None for other demos."""
        return (self._ends_after or 0) if self._plan.is_endless else None

    @property
    def is_open_ended(self) -> bool:
        """Whether the run goes on and on unless it is stopped."""
        return self._plan.is_endless and not self._is_over

    def _once(self, text: str) -> list[str]:
        if text in self._said:
            return []
        self._said.add(text)
        return [text]
