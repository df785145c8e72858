"""Faults injected at random times: crashes, cuts and losses, at the rates in `Faults`.

These faults know nothing of the protocol. `p2pfl.sim.aimed_faults` injects faults at steps of the protocol.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from p2pfl.core import inputs
from p2pfl.messages import quorum
from p2pfl.sim.device import CARD, OTHER_CARD, Device
from p2pfl.sim.disk import Disk
from p2pfl.sim.environment import Environment, Operations
from p2pfl.sim.limits import Limits
from p2pfl.sim.network import Network
from p2pfl.sim.transfers import BlobTransfers

BLACKOUT = 0.3
"""Maximum seconds between the first and the last start after a power failure of all devices."""

OPERATORS_LOOK = 10.0
"""Seconds between two checks of an operator whether the run has paused by itself."""

LATER = 8.0
"""Extra seconds until the others start: longer than the first ones wait for them (`start_grace`)."""

SLOWEST = 5.0
"""Maximum factor by which the training of a slow node is slower."""


class RandomFaults:
    """Injects the random faults of one simulation."""

    def __init__(
        self,
        environment: Environment,
        operations: Operations,
        network: Network,
        transfers: BlobTransfers,
        limits: Limits,
    ) -> None:
        self._environment, self._operations = environment, operations
        self._random, self._faults, self._devices = (
            environment.random,
            environment.faults,
            environment.devices,
        )
        self._network, self._transfers, self._limits = network, transfers, limits

    def begin(self) -> None:
        """Schedule the faults; they stop by themselves at `Faults.until`."""
        faults = self._faults
        if self._random.random() < faults.slow_node:
            self._any_device().slowness = self._random.uniform(1.0, SLOWEST)
        if faults.unpullable and self._random.random() < faults.unpullable:
            self._network.unpullable = {self._any_device().member.node}
            self._environment.note(None, f"no models ever come from {self._names(self._network.unpullable)}")
        for mean, fault in (
            (faults.crash_every, self._crash_device),
            (faults.blackout_every, self._black_out),
            (faults.freeze_every, self._suspend_device),
            (faults.sleep_every, self._put_device_to_sleep),
            (faults.leave_every, self._let_device_leave),
            (faults.cut_every, self._cut_somewhere),
            (faults.message_loss_every, self._lose_messages_somewhere),
            (faults.block_every, self._block_bulk),
            (faults.forge_every, self._forge_a_commit),
            (faults.other_data_every, self._mix_up_data),
            (faults.lose_disk_every, self._lose_a_disk),
            (faults.damage_every, self._damage_a_model),
            (faults.turn_away_every, self._turn_device_away),
            (faults.ban_every, self._ban_device),
        ):
            if mean:
                self._repeat(mean, fault)
        if faults.invalid_result or faults.fail or faults.hang or faults.ban_every:
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
        """Let operators resume a run that has paused because its members do not train."""
        for device in self._devices.values():
            ledger = device.node.ledger if device.node is not None else None
            if ledger is not None and ledger.is_paused:
                self._operations.hand(device, device.process, inputs.OperatorRequest("resume"))
        self._environment.after(OPERATORS_LOOK, self._resume_what_paused)

    def _any_device(self) -> Device:
        return self._random.choice(list(self._devices.values()))

    def _crash_device(self) -> None:
        self._operations.crash(self._any_device())

    def _black_out(self) -> None:
        black_out(self._environment, self._operations)

    def _suspend_device(self) -> None:
        self._operations.freeze(self._any_device(), self._random.uniform(0, self._faults.freeze))

    def _put_device_to_sleep(self) -> None:
        seconds = self._random.uniform(0, self._faults.freeze)
        self._operations.sleep(self._any_device(), seconds, is_counted=self._random.random() < 0.5)

    def _let_device_leave(self) -> None:
        device = self._any_device()
        if device.is_restored or not self._limits.may_leave():
            return
        device.is_away = device.is_up
        self._operations.hand(device, device.process, inputs.Leave())

    def _ban_device(self) -> None:
        """Ban a device of a run that has begun, where the others are still enough; lift the ban later."""
        welcome = [one for one in self._devices.values() if not one.is_banned]
        ledgers = [(one, one.node.ledger) for one in welcome if one.node is not None]
        begun = [one for one, ledger in ledgers if ledger is not None and ledger.last is not None]
        if not begun:
            return
        device = self._random.choice(begun)
        subject = self._any_device()
        rest = [one for one in welcome if one is not subject]
        banned = {one.member.node for one in self._devices.values() if one not in rest}
        if device not in rest or len(rest) < quorum(len(self._devices)) or not self._limits.may_ban(banned):
            return
        self._operations.ban(device, subject)
        self._environment.after(self._random.expovariate(1 / self._faults.ban), self._unban, subject)

    def _unban(self, subject: Device) -> None:
        up = [one for one in self._devices.values() if one.is_up and not one.is_banned]
        if up:
            self._operations.unban(self._random.choice(up), subject)

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
        """Send a device a record that follows its last one, with copies of that one's acceptances."""
        device = self._any_device()
        ledger = device.node.ledger if device.node is not None else None
        if ledger is None or ledger.last is None or not device.links:
            return
        sender = self._devices[self._random.choice(sorted(device.links))]
        last = ledger.last.record
        record = msgspec.structs.replace(last, round=last.round + 1, previous=ledger.digest, note="forged")
        forged = msgspec.structs.replace(ledger.last, record=record)
        self._environment.note(device, f"is sent a forged commit of round {record.round} by {sender.name}")
        self._operations.hand(device, device.process, inputs.Received(sender.member, forged))

    def _mix_up_data(self) -> None:
        """Start a device with data that do not fit the run; its operator corrects that later.

        One at a time: two could found a run together, and could not go on with it once their data are
        correct.
        """
        device = self._any_device()
        is_mixed_up = any(one.card != CARD for one in self._devices.values())
        if not device.is_up or device.is_restored or is_mixed_up:
            return
        device.card = OTHER_CARD
        self._environment.note(device, "is started with other data")
        self._operations.crash(device)
        self._environment.after(self._random.expovariate(1 / self._faults.away), self._correct_data, device)

    def _correct_data(self, device: Device) -> None:
        if device.card != CARD:
            device.card = CARD
            self._operations.crash(device)

    def _lose_a_disk(self) -> None:
        device = self._any_device()
        if self._limits.may_lose_disk(device):
            self._operations.lose_disk(device)

    def _block_bulk(self) -> None:
        """Block transfers between two devices, or from one to all others, or from all others to one."""
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
        """Return two devices; where there is only one, return it twice."""
        devices = list(self._devices.values())
        return self._random.sample(devices, 2) if len(devices) > 1 else devices * 2

    def _damage_a_model(self) -> None:
        """Corrupt the last model of a device, or its state, where another one has it.

        The device crashes half of the time.
        """
        device = self._any_device()
        blobs = device.disk.last_blobs()
        digest = None if blobs is None else self._random.choice(blobs.digests) if blobs.state else blobs.model
        if digest is not None and self._limits.may_damage(device, digest):
            self._environment.note(device, f"has wrong bytes of its last model {digest} on its disk")
            self._transfers.damage(device, digest)
            if self._random.random() < 0.5:
                self._operations.crash(device)

    def _turn_device_away(self) -> None:
        device = self._any_device()
        is_in_run = device.node is not None and device.node.ledger is not None
        if is_in_run and not device.is_restored and self._limits.may_lose_disk(device):
            self._operations.turn_away(device, self._random.expovariate(1 / self._faults.away))

    def _back_up_or_restore(self, backups: dict[Device, Disk]) -> None:
        """Restore a backup where that must be noticed; otherwise back a device up.

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
        device = self._any_device()
        backups[device] = device.disk.backup()

    def _some_nodes(self) -> set[str]:
        """Return up to half of the nodes, at least one."""
        nodes = list(self._devices)
        return set(self._random.sample(nodes, self._random.randint(1, max(1, len(nodes) // 2))))

    def _names(self, nodes: set[str]) -> str:
        """Return the names of *nodes*."""
        return ", ".join(sorted(self._devices[node].name for node in nodes))


def black_out(environment: Environment, operations: Operations, first: Device | None = None) -> None:
    """Cut the power of all devices, and start all of them again within moments.

    With *first*, a majority with that device starts soon, and the others later.
    """
    others = [device for device in environment.devices.values() if device is not first]
    environment.random.shuffle(others)
    soon = len(others) if first is None else len(others) // 2 + len(others) % 2
    if first is not None:
        operations.crash(first, 0.0, power=True)
    for place, device in enumerate(others):
        down = environment.random.uniform(0.0, BLACKOUT)
        operations.crash(device, down if place < soon else down + LATER, power=True)
