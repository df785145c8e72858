"""Faults that come by themselves: crashes, cuts and losses at random times, as `Faults` rates them.

Faults aimed at a step of the protocol are `p2pfl.sim.aimed_faults`'s; these know nothing of the protocol.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from p2pfl.core import inputs
from p2pfl.sim.device import Device
from p2pfl.sim.disk import Disk
from p2pfl.sim.environment import Environment, Operations
from p2pfl.sim.limits import Limits
from p2pfl.sim.network import Network
from p2pfl.sim.transfers import BlobTransfers

BLACKOUT = 0.3
"""Most seconds between the first and the last start after a failure of everybody's power."""

OPERATORS_LOOK = 10.0
"""Seconds between two looks of operators at a run that may have paused by itself."""

LATER = 8.0
"""Seconds the others come later: after those who are back have stopped waiting for them (`start_grace`)."""

SLOWEST = 5.0
"""How many times longer than the others' a slow node's training may take."""


class RandomFaults:
    """Injects the faults of one simulation that strike at random times."""

    def __init__(
        self,
        environment: Environment,
        operations: Operations,
        network: Network,
        bulk: BlobTransfers,
        limits: Limits,
    ) -> None:
        self._environment, self._operations = environment, operations
        self._random, self._faults, self._devices = (
            environment.random,
            environment.faults,
            environment.devices,
        )
        self._network, self._transfers, self._limits = network, bulk, limits

    def begin(self) -> None:
        """Let the faults begin; they stop by themselves at `Faults.until`."""
        faults = self._faults
        if self._random.random() < faults.slow_node:
            self._anybody().slowness = self._random.uniform(1.0, SLOWEST)
        if faults.unpullable and self._random.random() < faults.unpullable:
            self._network.unpullable = {self._anybody().member.node}
            self._environment.note(None, f"no models ever come from {self._names(self._network.unpullable)}")
        for mean, fault in (
            (faults.crash_every, self._crash_somebody),
            (faults.blackout_every, self._black_out),
            (faults.freeze_every, self._freeze_somebody),
            (faults.sleep_every, self._put_somebody_to_sleep),
            (faults.leave_every, self._let_somebody_leave),
            (faults.cut_every, self._cut_somewhere),
            (faults.message_loss_every, self._lose_messages_somewhere),
            (faults.block_every, self._block_bulk),
            (faults.forge_every, self._forge_a_commit),
            (faults.lose_disk_every, self._lose_a_disk),
            (faults.damage_every, self._damage_a_model),
            (faults.turn_away_every, self._let_somebody_turn_away),
        ):
            if mean:
                self._repeat(mean, fault)
        if faults.invalid_result or faults.fail or faults.hang:
            self._environment.after(OPERATORS_LOOK, self._resume_what_paused)
        if faults.restore_disk_every:
            backups: dict[Device, Disk] = {}
            self._repeat(faults.restore_disk_every / 2, lambda: self._back_up_or_restore(backups))

    def _repeat(self, mean: float, fault: Callable[[], None]) -> None:
        def happen() -> None:
            if self._environment.is_faulty:
                fault()
                self._environment.after(self._random.expovariate(1 / mean), happen)

        self._environment.after(self._random.expovariate(1 / mean), happen)

    def _resume_what_paused(self) -> None:
        """Let somebody's operator resume a run that has paused since its members do not train."""
        for device in self._devices.values():
            ledger = device.node.ledger if device.node is not None else None
            if ledger is not None and ledger.is_paused:
                self._operations.hand(device, device.process, inputs.OperatorRequest("resume"))
        self._environment.after(OPERATORS_LOOK, self._resume_what_paused)

    def _anybody(self) -> Device:
        return self._random.choice(list(self._devices.values()))

    def _crash_somebody(self) -> None:
        self._operations.crash(self._anybody())

    def _black_out(self) -> None:
        black_out(self._environment, self._operations)

    def _freeze_somebody(self) -> None:
        self._operations.freeze(self._anybody(), self._random.uniform(0, self._faults.freeze))

    def _put_somebody_to_sleep(self) -> None:
        seconds = self._random.uniform(0, self._faults.freeze)
        self._operations.sleep(self._anybody(), seconds, is_counted=self._random.random() < 0.5)

    def _let_somebody_leave(self) -> None:
        device = self._anybody()
        if device.is_restored:
            return
        device.is_away = device.is_up
        self._operations.hand(device, device.process, inputs.Leave())

    def _cut_somewhere(self) -> None:
        side = self._some_nodes()
        self._network.cut(side)
        self._environment.note(None, f"cut off: {self._names(side)}")
        self._environment.after(self._random.expovariate(1 / self._faults.cut), self._network.rejoin)

    def _lose_messages_somewhere(self) -> None:
        speakers = self._some_nodes()
        pairs = {(one, other) for one in sorted(speakers) for other in self._devices if other not in speakers}
        if self._random.random() < 0.3:
            pairs |= {(other, one) for one, other in pairs}
        elif self._random.random() < 0.5:
            pairs = {(other, one) for one, other in pairs}
        self._network.lose_messages(pairs)
        self._environment.note(None, f"messages between {self._names(speakers)} and the others are lost")
        self._environment.after(
            self._random.expovariate(1 / self._faults.cut),
            self._network.stop_losing_messages,
            pairs,
        )

    def _forge_a_commit(self) -> None:
        """Send somebody a record that follows its last one, with the acceptances of that."""
        device = self._anybody()
        ledger = device.node.ledger if device.node is not None else None
        if ledger is None or ledger.last is None or not device.links:
            return
        sender = self._devices[self._random.choice(sorted(device.links))]
        last = ledger.last.record
        record = msgspec.structs.replace(last, round=last.round + 1, previous=ledger.digest, note="forged")
        forged = msgspec.structs.replace(ledger.last, record=record)
        self._environment.note(device, f"is sent a forged commit of round {record.round} by {sender.name}")
        self._operations.hand(device, device.process, inputs.Received(sender.member, forged))

    def _lose_a_disk(self) -> None:
        device = self._anybody()
        if self._limits.may_lose_disk(device):
            self._operations.lose_disk(device)

    def _block_bulk(self) -> None:
        """Let no bytes come between two devices, or from one to all others, or from all others to one."""
        one, other = (device.member.node for device in self._two())
        chance = self._random.random()
        if chance < 0.4:
            pairs = {(one, other), (other, one)}
            what = f"between {self._names({one})} and {self._names({other})}"
        elif chance < 0.7:
            pairs, what = {(one, node) for node in self._devices}, f"from {self._names({one})}"
        else:
            pairs, what = {(node, one) for node in self._devices}, f"to {self._names({one})}"
        self._transfers.block(pairs)
        self._environment.note(None, f"no models come {what}")
        self._environment.after(
            self._random.expovariate(1 / self._faults.block),
            self._transfers.unblock,
            pairs,
        )

    def _two(self) -> list[Device]:
        """Return two devices; the only one twice."""
        devices = list(self._devices.values())
        return self._random.sample(devices, 2) if len(devices) > 1 else devices * 2

    def _damage_a_model(self) -> None:
        """Spoil somebody's last model, where another has it; half of the time its process ends with that."""
        device = self._anybody()
        digest = device.disk.last_model()
        if digest is not None and self._limits.may_damage(device, digest):
            self._environment.note(device, f"has wrong bytes of its last model {digest} on its disk")
            self._transfers.damage(device, digest)
            if self._random.random() < 0.5:
                self._operations.crash(device)

    def _let_somebody_turn_away(self) -> None:
        device = self._anybody()
        is_in_run = device.node is not None and device.node.ledger is not None
        if is_in_run and not device.is_restored and self._limits.may_lose_disk(device):
            self._operations.turn_away(device, self._random.expovariate(1 / self._faults.away))

    def _back_up_or_restore(self, backups: dict[Device, Disk]) -> None:
        """Restore somebody's backup where that must be noticed; otherwise make one of somebody.

        A backup may be of a start that is over or of this one. Half of them are of the journal alone, as
        where its last pages are deleted: the blobs are those of now.
        """
        for device, backup in backups.items():
            if self._limits.may_restore(device, backup):
                del backups[device]
                if self._random.random() < 0.5:
                    backup.blobs, backup.unflushed = set(device.disk.blobs), set(device.disk.unflushed)
                    backup.damaged = set(device.disk.damaged)
                self._operations.restore_disk(device, backup)
                return
        device = self._anybody()
        backups[device] = device.disk.backup()

    def _some_nodes(self) -> set[str]:
        """Return up to half of the nodes, at least one."""
        nodes = list(self._devices)
        return set(self._random.sample(nodes, self._random.randint(1, max(1, len(nodes) // 2))))

    def _names(self, nodes: set[str]) -> str:
        """Return the names of *nodes*."""
        return ", ".join(sorted(self._devices[node].name for node in nodes))


def black_out(environment: Environment, operations: Operations, first: Device | None = None) -> None:
    """Let everybody's power fail, and everybody come back within moments.

    Where a device is to be the *first* one, a majority with it comes back soon and the others later.
    """
    others = [device for device in environment.devices.values() if device is not first]
    environment.random.shuffle(others)
    soon = len(others) if first is None else len(others) // 2 + len(others) % 2
    if first is not None:
        operations.crash(first, 0.0, power=True)
    for place, device in enumerate(others):
        down = environment.random.uniform(0.0, BLACKOUT)
        operations.crash(device, down if place < soon else down + LATER, power=True)
