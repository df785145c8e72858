"""How far faults may go: within what the design promises to survive, or at least to notice.

Lost disks are survived as long as a quorum of every roster that matters keeps its own. A disk put back from a
backup is promised to be noticed, not survived: here that happens only where it must be noticed first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfl.messages import quorum
from p2pfl.sim.device import Device
from p2pfl.sim.disk import Disk

if TYPE_CHECKING:
    from p2pfl.sim.world import World


def may_lose_disk(world: World, device: Device) -> bool:
    """Whether the design survives that *device* loses its data directory now.

    Disks are lost one at a time: whoever lost one before, or turned away, is a member again, and another
    round is decided since, and every model that matters is whole on the disks that were to keep it. And every
    roster that matters tolerates the loss of one: also one that is being founded, one without those who are
    leaving, and one that a proposed value names. Of three, one is leaving, and the two others are proposed:
    that value lies on one disk, and may be decided when who was leaving has long come back to stay. Where a
    disk has come back with a backup, the others have to notice that first, by what is on theirs.
    """
    members = {one.member for one in world.devices.values()}
    whole = members - world.checker.votes.gone
    rosters = world.checker.latest() or [
        genesis.roster for disk in world.disks() for genesis in disk.geneses.values()
    ]
    rosters += world.checker.undecided()
    leaving = {
        one.member.node for one in world.devices.values() if is_leaving(one) or is_seen_leaving(world, one)
    }
    sizes = [sum(entry.node not in leaving for entry in roster) for roster in rosters]
    sizes = sizes or [device.options.min_nodes]
    return (
        device.exit is None
        and members == whole
        and not any(one.has_turned_away for one in world.devices.values())
        and world.bulk.is_mended()
        and all(size > quorum(size) for size in sizes)
        and all(entry.member in whole for roster in rosters for entry in roster)
    )


def may_damage(world: World, device: Device, digest: str) -> bool:
    """Whether the bytes of *digest* on the disk of *device* may go wrong: another one has them."""
    others = (one.disk for one in world.devices.values() if one is not device)
    is_held = any(digest in disk.blobs and disk.is_whole(digest) for disk in others)
    return is_held and device.disk.is_whole(digest) and may_lose_disk(world, device)


def may_restore(world: World, device: Device, backup: Disk) -> bool:
    """Whether it must be noticed, by everybody, that *backup* is of the past, before it does harm."""
    others = [other for other in world.devices.values() if other is not device]
    return (
        backup.member == device.member
        and bool(others)
        and all(_knows_better(other.disk, backup) for other in others)
        and may_lose_disk(world, device)
    )


def _knows_better(disk: Disk, backup: Disk) -> bool:
    """Whether on *disk* there is a later start, or more votes, of the journal in *backup*."""
    seen = disk.seen(backup.member)
    if seen is None:
        return False
    return seen.votes > backup.votes_cast or (
        seen.claim is not None and seen.claim.incarnation > backup.incarnation
    )


def is_leaving(device: Device) -> bool:
    """Whether *device* is to leave, and stays for as long as it is needed."""
    return device.node is not None and device.node.status().phase == "leaving"


def is_seen_leaving(world: World, device: Device) -> bool:
    """Whether another one still believes that *device* is to leave, though its process may have ended."""
    views = (one.node.peers.get(device.member.node) for one in world.devices.values() if one.node is not None)
    return any(view is not None and view.linked and view.is_leaving for view in views)
