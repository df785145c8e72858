"""Bans in a simulation: an operator bans a device or lifts a ban, and the devices tell each other.

Signatures are not simulated: a statement is a number for each device, odd for a ban and even for its end, and
the higher one holds. Every device keeps the numbers in its folder, which survives its disk. Records are
judged here as well: an aggregator that knows of a ban proposes none with the banned member.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import AnyEffect, Send, Tell
from p2pfl.messages import Accept, Record
from p2pfl.sim.device import Device, is_ban
from p2pfl.sim.environment import Environment, Processes
from p2pfl.sim.network import Network
from p2pfl.sim.violation import Violation


class Bans:
    """All bans of one simulation."""

    def __init__(self, environment: Environment, processes: Processes, network: Network) -> None:
        self._environment, self._processes = environment, processes
        self.newest: dict[str, int] = {}
        """The number of the newest statement about each node, whoever knows it."""
        self._known: dict[tuple[str, int, int], AbstractSet[str]] = {}
        """By node, round and attempt: the bans that the node knew when it made the record of that ballot."""
        network.on_linked = self._exchange
        network.on_excluded = self._show

    def say(self, device: Device, subject: Device, *, is_banned: bool) -> None:
        """Let an operator at *device* ban *subject*, or lift its ban."""
        node = subject.member.node
        number = self.newest.get(node, 0) + 1
        number += is_ban(number) != is_banned
        self.newest[node], subject.is_banned = number, is_banned
        self._environment.note(device, f"hears that {subject.name} {'is' if is_banned else 'is not'} banned")
        self._learn(device, node, number)

    def _learn(self, device: Device, node: str, number: int) -> None:
        if not device.is_up:
            return
        if node == device.member.node:
            device.is_told_own = True
        elif device.statements.get(node, 0) >= number:
            return
        device.statements[node] = max(number, device.statements.get(node, 0))
        self._processes.hand(device, device.process, inputs.Ban(device.excluded()))
        for link in list(device.links.values()):
            self._tell(link.end_of(device), node, number)

    def _tell(self, device: Device, node: str, number: int) -> None:
        if device.statements.get(node, 0) < number:
            delay = self._environment.random.expovariate(1 / 0.02)
            self._environment.after(delay, self._learn, device, node, number)

    def _exchange(self, one: Device, other: Device) -> None:
        """Let two devices that are linked now tell each other all they know."""
        for speaker, hearer in ((one, other), (other, one)):
            for node, number in list(speaker.statements.items()):
                self._learn(hearer, node, number)

    def _show(self, judge: Device, refused: Device) -> None:
        """Let *judge* show *refused* why it gets no link, and be shown that the ban was lifted meanwhile."""
        node = refused.member.node
        self._learn(refused, node, judge.statements[node])
        self._learn(judge, node, refused.statements[node])

    def check(self, device: Device, effect: AnyEffect) -> None:
        """Check a record that *device* proposes.

        Raises:
            Violation: it counts an update of a member that was banned when it was made, as far as *device*
            was told, or removes none of them.
        """
        if device.node is None:
            return
        match effect:
            case Tell(event=events.Proposed(adopted=False) as event):
                key = device.member.node, event.round, event.attempt
                self._known[key] = device.node.banned.keys() - {device.member.node}
            case Send(message=Accept() as message) if message.record.ballot == message.ballot:
                self._check_record(device, message.record)

    def _check_record(self, device: Device, record: Record) -> None:
        key = device.member.node, record.round, record.ballot.attempt
        banned, ledger = self._known.pop(key, None), device.node.ledger if device.node is not None else None
        if banned is None or ledger is None:
            return
        voters = {entry.node for entry in ledger.roster} & banned
        counted = [update.node for update in record.updates if update.node in banned]
        if counted:
            raise Violation("roster", f"{device.name} counts an update of a banned member in {record.round}")
        if voters and voters <= {entry.node for entry in record.roster}:
            raise Violation("roster", f"{device.name} keeps all banned members after round {record.round}")
