"""Faults that come by themselves: crashes, cuts and losses at random times, as `Faults` rates them.

Faults aimed at a step of the protocol are `p2pfl.sim.aim`'s; these know nothing of the protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from p2pfl.core import inputs
from p2pfl.sim.device import CARD, OTHER_CARD
from p2pfl.sim.disk import Disk
from p2pfl.sim.limits import may_damage, may_lose_disk, may_restore

if TYPE_CHECKING:
    from p2pfl.sim.device import Device
    from p2pfl.sim.world import World

BLACKOUT = 0.3
"""Most seconds between the first and the last start after a failure of everybody's power."""

OPERATORS_LOOK = 10.0
"""Seconds between two looks of operators at a run that may have paused by itself."""

LATER = 8.0
"""Seconds the others come later: after those who are back have stopped waiting for them (`start_grace`)."""

SLOWEST = 5.0
"""How many times longer than the others' a slow node's training may take."""


def schedule_faults(world: World) -> None:
    """Let the faults of *world* begin; they stop by themselves at `Faults.until`."""
    faults = world.faults
    if world.random.random() < faults.slow_node:
        _anybody(world).slowness = world.random.uniform(1.0, SLOWEST)
    if faults.walled and world.random.random() < faults.walled:
        world.network.walled = {_anybody(world).member.node}
        world.note(None, f"no models ever come from {names(world, world.network.walled)}")
    for mean, fault in (
        (faults.crash_every, _crash_somebody),
        (faults.blackout_every, black_out),
        (faults.freeze_every, _freeze_somebody),
        (faults.sleep_every, _put_somebody_to_sleep),
        (faults.leave_every, _let_somebody_leave),
        (faults.cut_every, _cut_somewhere),
        (faults.deafen_every, _deafen_somebody),
        (faults.block_every, _block_bulk),
        (faults.forge_every, _forge_a_commit),
        (faults.other_data_every, _mix_up_data),
        (faults.lose_disk_every, _lose_a_disk),
        (faults.damage_every, _damage_a_model),
        (faults.turn_away_every, _let_somebody_turn_away),
    ):
        if mean:
            _repeat(world, mean, fault)
    if faults.misfit or faults.fail or faults.hang:
        world.after(OPERATORS_LOOK, _resume_what_paused, world)
    if faults.restore_disk_every:
        backups: dict[Device, Disk] = {}
        _repeat(world, faults.restore_disk_every / 2, lambda world: _back_up_or_restore(world, backups))


def _repeat(world: World, mean: float, fault: Callable[[World], None]) -> None:
    def happen() -> None:
        if world.is_faulty:
            fault(world)
            world.after(world.random.expovariate(1 / mean), happen)

    world.after(world.random.expovariate(1 / mean), happen)


def _resume_what_paused(world: World) -> None:
    """Let somebody's operator resume a run that has paused since its members do not train."""
    for device in world.devices.values():
        ledger = device.node.ledger if device.node is not None else None
        if ledger is not None and ledger.is_paused:
            world.hand(device, device.process, inputs.OperatorRequest("resume"))
    world.after(OPERATORS_LOOK, _resume_what_paused, world)


def _anybody(world: World) -> Device:
    return world.random.choice(list(world.devices.values()))


def _crash_somebody(world: World) -> None:
    world.crash(_anybody(world))


def black_out(world: World, first: Device | None = None) -> None:
    """Let everybody's power fail, and everybody come back within moments.

    Where a device is to be the *first* one, a majority with it comes back soon and the others later.
    """
    others = [device for device in world.devices.values() if device is not first]
    world.random.shuffle(others)
    soon = len(others) if first is None else len(others) // 2 + len(others) % 2
    if first is not None:
        world.crash(first, 0.0, power=True)
    for place, device in enumerate(others):
        down = world.random.uniform(0.0, BLACKOUT)
        world.crash(device, down if place < soon else down + LATER, power=True)


def _freeze_somebody(world: World) -> None:
    world.freeze(_anybody(world), world.random.uniform(0, world.faults.freeze))


def _put_somebody_to_sleep(world: World) -> None:
    seconds = world.random.uniform(0, world.faults.freeze)
    world.sleep(_anybody(world), seconds, is_counted=world.random.random() < 0.5)


def _let_somebody_leave(world: World) -> None:
    device = _anybody(world)
    if device.is_restored:
        return
    device.is_away = device.is_up
    world.hand(device, device.process, inputs.Leave())


def _cut_somewhere(world: World) -> None:
    side = some_nodes(world)
    world.cut(side)
    world.note(None, f"cut off: {names(world, side)}")
    world.after(world.random.expovariate(1 / world.faults.cut), world.network.rejoin)


def _deafen_somebody(world: World) -> None:
    speakers = some_nodes(world)
    pairs = {(one, other) for one in sorted(speakers) for other in world.devices if other not in speakers}
    if world.random.random() < 0.3:
        pairs |= {(other, one) for one, other in pairs}
    elif world.random.random() < 0.5:
        pairs = {(other, one) for one, other in pairs}
    world.network.deafen(pairs)
    world.note(None, f"messages between {names(world, speakers)} and the others are lost")
    world.after(world.random.expovariate(1 / world.faults.cut), world.network.hear_again, pairs)


def _forge_a_commit(world: World) -> None:
    """Send somebody a record that follows its last one, with the acceptances of that."""
    device = _anybody(world)
    ledger = device.node.ledger if device.node is not None else None
    if ledger is None or ledger.last is None or not device.links:
        return
    sender = world.devices[world.random.choice(sorted(device.links))]
    last = ledger.last.record
    record = msgspec.structs.replace(last, round=last.round + 1, previous=ledger.digest, note="forged")
    forged = msgspec.structs.replace(ledger.last, record=record)
    world.note(device, f"is sent a forged commit of round {record.round} by {sender.name}")
    world.hand(device, device.process, inputs.Received(sender.member, forged))


def _mix_up_data(world: World) -> None:
    """Start somebody with data that do not fit the run; its operator notices in the end, if nobody else."""
    device = _anybody(world)
    if not device.is_up or device.is_restored or device.card != CARD:
        return
    device.card = OTHER_CARD
    world.note(device, "is started with other data")
    world.crash(device)
    world.after(world.random.expovariate(1 / world.faults.away), _mend_data, world, device)


def _mend_data(world: World, device: Device) -> None:
    if device.card != CARD:
        device.card = CARD
        world.crash(device)


def _lose_a_disk(world: World) -> None:
    device = _anybody(world)
    if may_lose_disk(world, device):
        world.lose_disk(device)


def _block_bulk(world: World) -> None:
    """Let no bytes come between two devices, or from one to all others, or from all others to one."""
    one, other = (device.member.node for device in _two(world))
    chance = world.random.random()
    if chance < 0.4:
        pairs = {(one, other), (other, one)}
        what = f"between {names(world, {one})} and {names(world, {other})}"
    elif chance < 0.7:
        pairs, what = {(one, node) for node in world.devices}, f"from {names(world, {one})}"
    else:
        pairs, what = {(node, one) for node in world.devices}, f"to {names(world, {one})}"
    world.bulk.block(pairs)
    world.note(None, f"no models come {what}")
    world.after(world.random.expovariate(1 / world.faults.block), world.bulk.unblock, pairs)


def _two(world: World) -> list[Device]:
    """Return two devices; the only one twice."""
    devices = list(world.devices.values())
    return world.random.sample(devices, 2) if len(devices) > 1 else devices * 2


def _damage_a_model(world: World) -> None:
    """Spoil somebody's last model, where another has it; half of the time its process ends with that."""
    device = _anybody(world)
    digest = device.disk.last_model()
    if digest is not None and may_damage(world, device, digest):
        world.note(device, f"has wrong bytes of its last model {digest} on its disk")
        world.bulk.damage(device, digest)
        if world.random.random() < 0.5:
            world.crash(device)


def _let_somebody_turn_away(world: World) -> None:
    device = _anybody(world)
    is_in_run = device.node is not None and device.node.ledger is not None
    if is_in_run and not device.is_restored and may_lose_disk(world, device):
        world.turn_away(device, world.random.expovariate(1 / world.faults.away))


def _back_up_or_restore(world: World, backups: dict[Device, Disk]) -> None:
    """Restore somebody's backup where that must be noticed; otherwise make one of somebody.

    A backup may be of a start that is over or of this one. Half of them are of the journal alone, as where
    its last pages are deleted: the blobs are those of now.
    """
    for device, backup in backups.items():
        if may_restore(world, device, backup):
            del backups[device]
            if world.random.random() < 0.5:
                backup.blobs, backup.unflushed = set(device.disk.blobs), set(device.disk.unflushed)
                backup.damaged = set(device.disk.damaged)
            world.restore_disk(device, backup)
            return
    device = _anybody(world)
    backups[device] = device.disk.backup()


def some_nodes(world: World) -> set[str]:
    """Return up to half of the nodes, at least one."""
    nodes = list(world.devices)
    return set(world.random.sample(nodes, world.random.randint(1, max(1, len(nodes) // 2))))


def names(world: World, nodes: set[str]) -> str:
    """Return the names of *nodes*."""
    return ", ".join(sorted(world.devices[node].name for node in nodes))
