"""How far faults may go: within what the design promises to survive, or at least to notice.

Lost disks are survived as long as a quorum of every roster that matters keeps its own. A disk put back from a
backup is promised to be noticed, not survived: here that happens only where it must be noticed first.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from p2pfl.messages import Member, quorum
from p2pfl.sim.checker import InvariantChecker
from p2pfl.sim.device import Device
from p2pfl.sim.disk import Disk
from p2pfl.sim.environment import Environment


class Limits:
    """Decides which faults a simulation may still inject."""

    def __init__(
        self, environment: Environment, checker: InvariantChecker, damaged: AbstractSet[tuple[Member, str]]
    ) -> None:
        """Decide nothing yet. *damaged* are members and blobs whose bytes were ever lost on their disk."""
        self._environment, self._checker, self._damaged = environment, checker, damaged

    def may_lose_disk(self, device: Device) -> bool:
        """Whether the design survives that *device* loses its data directory now.

        Disks are lost one at a time: whoever lost one before, or turned away, is a member again, and another
        round is decided since, and every model that matters is whole on the disks that were to keep it. And
        every roster that matters tolerates the loss of one: also one that is being founded, one without those
        who are leaving, and one that a proposed value names. Of three, one is leaving, and the two others are
        proposed: that value lies on one disk, and may be decided when who was leaving has long come back to
        stay. Where a disk has come back with a backup, the others have to notice that first, by what is on
        theirs.
        """
        members = {one.member for one in self._environment.devices.values()}
        whole = members - self._checker.votes.gone
        rosters = self._checker.latest() or [
            genesis.roster for disk in self._environment.disks() for genesis in disk.geneses.values()
        ]
        rosters += self._checker.undecided()
        leaving = {
            one.member.node
            for one in self._environment.devices.values()
            if one.is_leaving or self._is_seen_leaving(one)
        }
        sizes = [sum(entry.node not in leaving for entry in roster) for roster in rosters]
        sizes = sizes or [device.options.min_nodes]
        return (
            device.exit is None
            and members == whole
            and not any(one.has_turned_away for one in self._environment.devices.values())
            and self.is_mended()
            and all(size > quorum(size) for size in sizes)
            and all(entry.member in whole for roster in rosters for entry in roster)
        )

    def may_damage(self, device: Device, digest: str) -> bool:
        """Whether the bytes of *digest* on the disk of *device* may go wrong: another one has them."""
        others = (one.disk for one in self._environment.devices.values() if one is not device)
        is_held = any(digest in disk.blobs and disk.is_whole(digest) for disk in others)
        return is_held and device.disk.is_whole(digest) and self.may_lose_disk(device)

    def may_restore(self, device: Device, backup: Disk) -> bool:
        """Whether it must be noticed, by everybody, that *backup* is of the past, before it does harm."""
        others = [other for other in self._environment.devices.values() if other is not device]
        return (
            backup.member == device.member
            and bool(others)
            and all(_knows_better(other.disk, backup) for other in others)
            and self.may_lose_disk(device)
        )

    def _is_seen_leaving(self, device: Device) -> bool:
        """Whether another one still believes that *device* is to leave, though its process may have ended."""
        views = (
            one.node.peers.get(device.member.node)
            for one in self._environment.devices.values()
            if one.node is not None
        )
        return any(view is not None and view.linked and view.is_leaving for view in views)

    def is_mended(self) -> bool:
        """Whether every model that matters is whole again on the disks that had lost its bytes."""
        votes = self._checker.votes
        matters = {
            votes.chosen[run, round_].record.model
            for run, last in votes.last.items()
            for round_ in (last - 1, last)
            if (run, round_) in votes.chosen
        }
        for disk in self._environment.disks():
            matters.add(disk.last_model() or "")
            matters |= {vote.accepted.model for vote in disk.votes.values() if vote.accepted is not None}
        return all(
            disk.is_whole(digest)
            for disk in self._environment.disks()
            for member, digest in self._damaged
            if member == disk.member and digest in matters
        )


def _knows_better(disk: Disk, backup: Disk) -> bool:
    """Whether on *disk* there is a later start, or more votes, of the journal in *backup*."""
    seen = disk.seen(backup.member)
    if seen is None:
        return False
    return seen.votes > backup.votes_cast or (
        seen.claim is not None and seen.claim.incarnation > backup.incarnation
    )
