"""Faults injected at steps of the protocol: right after a PREPARE, PROMISE, ACCEPT and so on was sent.

At those moments half of the nodes know something that the others do not. A PROMISE that names an accepted
value is the rarest of these messages, and the rule of adoption rests on it, so it has a rate of its own. A
proposer that has sent ACCEPT and has not accepted its own value yet has a rate of its own too: others may
have accepted the value already, so the proposer must not forget it. Such a proposer crashes alone, or
together with all others.
"""

from __future__ import annotations

from p2pfl.core.effects import AnyEffect, Send
from p2pfl.messages import Accept, Accepted, Collect, Commit, Prepare, Promise
from p2pfl.sim.device import Device
from p2pfl.sim.environment import Environment, Operations
from p2pfl.sim.limits import Limits
from p2pfl.sim.network import Network
from p2pfl.sim.random_faults import black_out

TARGETS = (Prepare, Promise, Collect, Accept, Accepted, Commit)
"""Messages after which a fault does most harm."""

USUAL = 5
"""Number of nodes for which the rates are meant. More nodes send more messages a round, and have even more
effects a second: with the same rate for each, no node would stay up."""

SENDER = 0.7
"""Share of aimed faults that strike the sender. The others strike the receiver, before the message
arrives."""

STRIKES = (("crash", 0.6), ("cut", 0.75), ("freeze", 0.85), ("disk", 1.0))
"""Kinds of faults with their cumulated shares. Where no disk may be lost, a crash replaces the loss."""


ALONE = 0.2
"""Share of the faults at a proposer before its own acceptance that strike it alone. Such a fault can do harm
only until another ballot begins, and the next in rank begins one at once, unless it has just started too."""


class AimedFaults:
    """Draws the aimed faults of one simulation."""

    def __init__(
        self, environment: Environment, operations: Operations, network: Network, limits: Limits
    ) -> None:
        self._environment, self._operations = environment, operations
        self._network, self._limits = network, limits
        self._share = min(1.0, USUAL / environment.size)
        self._left = self._draw()

    def after(self, device: Device, effect: AnyEffect) -> None:
        """Perhaps inject a fault right after *device* has carried *effect* out."""
        environment, faults = self._environment, self._environment.faults
        self._left -= 1
        if self._left < 0:
            self._left = self._draw()
            if environment.random.random() < 0.9:
                self._operations.crash(device)
            else:
                self._operations.freeze(device, environment.random.uniform(0, faults.freeze))
        elif isinstance(effect, Send) and isinstance(effect.message, TARGETS):
            message = effect.message
            if isinstance(message, Accepted) and self._strikes_proposer(message):
                return
            names_a_value = isinstance(message, Promise) and message.accepted is not None
            rate = faults.aimed_value if names_a_value else faults.aimed
            if environment.random.random() < rate * self._share:
                victim = device if environment.random.random() < SENDER else environment.devices[effect.to]
                environment.note(device, f"is aimed at after {type(message).__name__.upper()}: {victim.name}")
                self._strike(victim)

    def _strikes_proposer(self, message: Accepted) -> bool:
        """Perhaps crash the proposer that *message* goes to, if it has not accepted its own value yet."""
        environment, faults = self._environment, self._environment.faults
        if not faults.aimed_first or environment.random.random() >= faults.aimed_first:
            return False
        proposer = environment.devices[message.ballot.node]
        vote = proposer.disk.votes.get(message.run)
        if vote is not None and (vote.round, vote.accepted_ballot) == (message.round, message.ballot):
            return False
        environment.note(proposer, "is aimed at before its own acceptance")
        if environment.random.random() < ALONE:
            self._operations.crash(proposer, environment.random.uniform(0, 0.5))
        else:
            black_out(environment, self._operations, first=proposer)
        return True

    def _draw(self) -> float:
        """Return the number of effects until the next fault that is not aimed."""
        between = self._environment.faults.between * self._share**2
        return self._environment.random.expovariate(between) if between else float("inf")

    def _strike(self, victim: Device) -> None:
        environment, faults = self._environment, self._environment.faults
        chance = environment.random.random()
        kind = next(kind for kind, share in STRIKES if chance < share)
        if kind == "cut":
            self._network.cut({victim.member.node})
            environment.after(environment.random.expovariate(1 / faults.cut), self._network.rejoin)
        elif kind == "freeze":
            self._operations.freeze(victim, environment.random.uniform(0, faults.freeze))
        elif kind == "disk" and faults.lose_disk_every and self._limits.may_lose_disk(victim):
            self._operations.lose_disk(victim)
        else:
            self._operations.crash(victim)
