"""Limits of fault injection: only faults that the protocol promises to survive, or at least to notice.

Lost disks are survived as long as a quorum of every roster that matters keeps its own. A disk restored from a
backup is promised to be noticed, not to be survived: it is injected only where it must be noticed before it
does harm.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from p2pfl.messages import Member, RosterEntry, quorum
from p2pfl.sim.checker import InvariantChecker
from p2pfl.sim.device import Device
from p2pfl.sim.disk import Disk
from p2pfl.sim.environment import Environment


class Limits:
    """Decides which faults a simulation may still inject."""

    def __init__(
        self, environment: Environment, checker: InvariantChecker, damaged: AbstractSet[tuple[Member, str]]
    ) -> None:
        """Decide nothing yet. *damaged* are members and the blobs whose bytes their disk ever lost."""
        self._environment, self._checker, self._damaged = environment, checker, damaged

    def may_ban(self, banned: AbstractSet[str]) -> bool:
        """Whether the run goes on with the nodes *banned* kept out.

        A banned member may be unable to vote for its own removal. So the others must be a quorum of every
        roster that matters, with the disks that they have.
        """
        rosters = [*self._checker.latest(), *self._checker.undecided()]
        devices = self._environment.devices.values()
        is_mended = not any(one.has_turned_away or one.is_restored for one in devices) and self.is_mended()
        staying = {one.member for one in devices if one.member.node not in banned} - self._checker.votes.gone
        return is_mended and all(
            sum(entry.member in staying for entry in roster) >= quorum(len(roster)) for roster in rosters
        )

    def may_lose_disk(self, device: Device) -> bool:
        """Whether the protocol survives that *device* loses its data directory now.

        Disks are lost one at a time. Before the next loss, every member whose disk was lost, or who turned
        away, must be a member again with a decided round behind it, and every damaged model must be whole
        again. Every roster that matters must tolerate one more loss. That includes rosters of record 0 and of
        proposed records, and each is counted without the members that are leaving. Example: of three members
        one is leaving, and the proposed roster holds the two others. That record may be on one disk only, and
        be decided long after the third has come back to stay. A disk restored from a backup must first be
        noticed by the others, from what is on their disks. Every member of a run with a commit must have
        entered it: two devices that know nothing of the run, one of them by a lost disk, may found another
        one.
        """
        rosters = self._rosters()
        leaving = {
            one.member.node
            for one in self._environment.devices.values()
            if one.is_leaving or self._is_seen_leaving(one)
        }
        sizes = [sum(entry.node not in leaving for entry in roster) for roster in rosters]
        sizes = sizes or [device.options.min_nodes]
        return (
            device.exit is None
            and self._are_all_back(rosters)
            and self.is_mended()
            and all(size > quorum(size) for size in sizes)
            and self._have_all_entered()
        )

    def may_leave(self) -> bool:
        """Whether a device may leave politely now: nobody else is missing for good.

        The commit that lets it go makes the roster smaller, and a smaller roster may tolerate no loss.
        Example: of three members, one turns away and will lose its disk. If another one leaves before the
        others notice the first, the next roster holds the one that turned away and the third, and can decide
        nothing.
        """
        return self._are_all_back(self._rosters())

    def _rosters(self) -> list[tuple[RosterEntry, ...]]:
        """Return the rosters that matter."""
        founded = [genesis.roster for disk in self._environment.disks() for genesis in disk.geneses.values()]
        return (self._checker.latest() or founded) + self._checker.undecided()

    def _are_all_back(self, rosters: list[tuple[RosterEntry, ...]]) -> bool:
        """Whether each device whose disk was lost, or that turned away, is a member again in *rosters*."""
        devices = self._environment.devices.values()
        members = {one.member for one in devices}
        whole = members - self._checker.votes.gone
        return (
            members == whole
            and not any(one.has_turned_away or one.is_banned for one in devices)
            and all(entry.member in whole for roster in rosters for entry in roster)
        )

    def _have_all_entered(self) -> bool:
        """Whether the disk of every member of a run with a commit holds record 0 of that run."""
        votes = self._checker.votes
        geneses = {one.member: one.disk.geneses for one in self._environment.devices.values()}
        return all(
            run in geneses.get(entry.member, {})
            for run, last in votes.last.items()
            if (run, last) in votes.chosen
            for entry in votes.chosen[run, last].record.roster
        )

    def may_damage(self, device: Device, digest: str) -> bool:
        """Whether blob *digest* on the disk of *device* may be corrupted: another device must have it."""
        others = (one.disk for one in self._environment.devices.values() if one is not device)
        is_held = any(digest in disk.blobs and disk.is_whole(digest) for disk in others)
        return is_held and device.disk.is_whole(digest) and self.may_lose_disk(device)

    def may_restore(self, device: Device, backup: Disk) -> bool:
        """Whether all other devices must notice that *backup* is a backup, before it does harm."""
        others = [other for other in self._environment.devices.values() if other is not device]
        return (
            backup.member == device.member
            and bool(others)
            and all(_knows_better(other.disk, backup) for other in others)
            and self.may_lose_disk(device)
        )

    def _is_seen_leaving(self, device: Device) -> bool:
        """Whether another device still takes *device* for leaving, though its process may have ended."""
        views = (
            one.node.peers.get(device.member.node)
            for one in self._environment.devices.values()
            if one.node is not None
        )
        return any(view is not None and view.linked and view.is_leaving for view in views)

    def is_mended(self) -> bool:
        """Whether every damaged disk has the blobs that matter again, with the right bytes."""
        votes = self._checker.votes
        matters = {
            digest
            for run, last in votes.last.items()
            for round_ in (last - 1, last)
            if (run, round_) in votes.chosen
            for digest in votes.chosen[run, round_].record.blobs.digests
        }
        for disk in self._environment.disks():
            blobs = disk.last_blobs()
            matters |= disk.accepted_blobs().union(blobs.digests if blobs is not None else ())
        return all(
            disk.is_whole(digest)
            for disk in self._environment.disks()
            for member, digest in self._damaged
            if member == disk.member and digest in matters
        )


def _knows_better(disk: Disk, backup: Disk) -> bool:
    """Whether *disk* has seen a later start, or more votes, of the journal in *backup*."""
    seen = disk.seen(backup.member)
    if seen is None:
        return False
    return seen.votes > backup.votes_cast or (
        seen.claim is not None and seen.claim.incarnation > backup.incarnation
    )
