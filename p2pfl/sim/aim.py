"""Faults aimed at the protocol's steps: what strikes right after a PREPARE, PROMISE, ACCEPT... has left.

Those are the moments when half of the nodes know something the others do not. The rarest of them, a PROMISE
that names a value somebody has accepted, is the one the adoption rule rests on: it has a rate of its own.
So has the time between a proposer's ACCEPT and its own acceptance, when others may have accepted a value that
its proposer must not have forgotten: it is struck there alone, or with everybody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfl.core.effects import AnyEffect, Send
from p2pfl.messages import Accept, Accepted, Collect, Commit, Prepare, Promise
from p2pfl.sim.chaos import black_out
from p2pfl.sim.limits import may_lose_disk

if TYPE_CHECKING:
    from p2pfl.sim.device import Device
    from p2pfl.sim.world import World

TARGETS = (Prepare, Promise, Collect, Accept, Accepted, Commit)
"""Messages after whose sending a fault hurts most."""

USUAL = 5
"""Nodes for which the rates are meant. With more of them, a round has more messages, and a second even more
effects: the same rate for each would leave nobody standing."""

SENDER = 0.7
"""Share of aimed faults that strike the sender; the others strike the receiver before the message does."""

STRIKES = (("crash", 0.6), ("cut", 0.75), ("freeze", 0.85), ("disk", 1.0))
"""What strikes, with the cumulated share of each. Where no disk may be lost it is a crash."""


ALONE = 0.2
"""Share of faults aimed at a proposer before its own acceptance that strike it alone. It can do harm only as
long as no other ballot has begun, and the next in rank begins one at once, unless it has just started too."""


class Aim:
    """Draws the aimed faults of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._share = min(1.0, USUAL / world.size)
        self._left = self._draw()

    def after(self, device: Device, effect: AnyEffect) -> None:
        """Let something go wrong right after *effect* of *device* was carried out, or not."""
        world, faults = self._world, self._world.faults
        self._left -= 1
        if self._left < 0:
            self._left = self._draw()
            if world.random.random() < 0.9:
                world.crash(device)
            else:
                world.freeze(device, world.random.uniform(0, faults.freeze))
        elif isinstance(effect, Send) and isinstance(effect.message, TARGETS):
            message = effect.message
            if isinstance(message, Accepted) and self._strikes_proposer(message):
                return
            names_a_value = isinstance(message, Promise) and message.accepted is not None
            rate = faults.aimed_value if names_a_value else faults.aimed
            if world.random.random() < rate * self._share:
                victim = device if world.random.random() < SENDER else world.devices[effect.to]
                world.note(device, f"is aimed at after {type(message).__name__.upper()}: {victim.name}")
                self._strike(victim)

    def _strikes_proposer(self, message: Accepted) -> bool:
        """Strike, or not, the proposer that *message* goes to, if it has not accepted its own value yet."""
        world, faults = self._world, self._world.faults
        if not faults.aimed_first or world.random.random() >= faults.aimed_first:
            return False
        proposer = world.devices[message.ballot.node]
        vote = proposer.disk.votes.get(message.run)
        if vote is not None and (vote.round, vote.accepted_ballot) == (message.round, message.ballot):
            return False
        world.note(proposer, "is aimed at before its own acceptance")
        if world.random.random() < ALONE:
            world.crash(proposer, world.random.uniform(0, 0.5))
        else:
            black_out(world, first=proposer)
        return True

    def _draw(self) -> float:
        """Return after how many effects the next unaimed fault strikes: a draw for each would cost more."""
        between = self._world.faults.between * self._share**2
        return self._world.random.expovariate(between) if between else float("inf")

    def _strike(self, victim: Device) -> None:
        world, faults = self._world, self._world.faults
        chance = world.random.random()
        kind = next(kind for kind, share in STRIKES if chance < share)
        if kind == "cut":
            world.cut({victim.member.node})
            world.after(world.random.expovariate(1 / faults.cut), world.network.rejoin)
        elif kind == "freeze":
            world.freeze(victim, world.random.uniform(0, faults.freeze))
        elif kind == "disk" and faults.lose_disk_every and may_lose_disk(world, victim):
            world.lose_disk(victim)
        else:
            world.crash(victim)
