"""The checker of all invariants: sees every disk, and checks after every effect.

`VoteChecker` checks what members promise and decide, `WorkChecker` what becomes of their work. This module
checks that models stay where they must be, and passes every effect on to the other two.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import assert_never

from p2pfl.core.effects import (
    Aggregate,
    AnyEffect,
    DeleteUnneededBlobs,
    Save,
    SaveAccepted,
    SaveClosed,
    SaveCommit,
    SaveGenesis,
    SavePromise,
    SaveRefused,
    SaveReport,
    SaveResumed,
    SaveSeen,
    SaveUpdate,
    Send,
    Tell,
    Train,
)
from p2pfl.messages import Accept, Accepted, Collect, Member, Promise, Record, RosterEntry, quorum
from p2pfl.sim.disk import Disk
from p2pfl.sim.violation import Violation
from p2pfl.sim.votes import Chosen, VoteChecker, short
from p2pfl.sim.work import WorkChecker


class InvariantChecker:
    """Checks the invariants after every effect."""

    def __init__(
        self, disks: Callable[[], Iterable[Disk]], damaged: Container[tuple[Member, str]] = ()
    ) -> None:
        """Check nothing yet.

        *disks* returns the disks of all devices, running or not. *damaged* are members and the blobs whose
        bytes their disk lost: the members are excused.
        """
        self._disks, self._damaged = disks, damaged
        self.votes = VoteChecker()
        self.work = WorkChecker()

    @property
    def rounds(self) -> int:
        """Number of decided rounds."""
        return len(self.votes.chosen)

    def digest(self, record: Record) -> str:
        """Return the record's digest, computed once per object."""
        return self.votes.digest(record)

    def saved(self, disk: Disk, effect: Save) -> None:
        """Check a save that has just become durable."""
        match effect:
            case SavePromise():
                self.votes.promised(disk, effect)
            case SaveAccepted():
                self._accepted(disk, effect)
            case SaveCommit():
                self.votes.committed(disk, effect)
                self.work.committed(disk, effect)
            case SaveGenesis():
                self.votes.founded(effect)
                self.work.founded(effect)
            case SaveUpdate() | SaveReport() | SaveResumed() | SaveSeen() | SaveRefused() | SaveClosed():
                pass
            case _:
                assert_never(effect)

    def done(self, disk: Disk, name: str, effect: AnyEffect) -> None:
        """Check any other effect that the device *name* has just carried out."""
        match effect:
            case Send(message=Promise() | Accepted() as message):
                self.votes.sent(disk, message)
            case Send(message=Accept() as message):
                self.votes.propose(message.record)
            case Send(to=to, message=Collect() as message):
                self.work.collects(disk.member.node, to, message)
            case Tell():
                self.work.told(disk, name, effect.event)
            case DeleteUnneededBlobs():
                self._collected(disk)
            case Train():
                self._check_input(disk, effect.job.round, (effect.job.model, effect.job.state))
                self.work.begun(disk, effect)
            case Aggregate():
                job = effect.job
                updates = [digest for one in job.updates for digest in (one.digest, one.control)]
                self._check_input(disk, job.round, (job.parent, job.state, *updates))
            case _:
                pass

    def lost(self, member: Member) -> None:
        """Record that a member's disk was lost, or replaced by a backup."""
        self.votes.gone.add(member)

    def latest(self) -> list[tuple[RosterEntry, ...]]:
        """Return the rosters on which the decided records of the longest run depend.

        These are the rosters that voted for its last two records, and the roster that votes next. There are
        none before a record is decided.
        """
        votes = self.votes
        if not votes.last:
            return []
        run, last = self._most_rounds()
        chosen = [votes.chosen[run, round_] for round_ in (last - 1, last) if (run, round_) in votes.chosen]
        return [*(one.voters for one in chosen), chosen[-1].record.roster]

    def undecided(self) -> list[tuple[RosterEntry, ...]]:
        """Return the rosters in proposed records of that run which may still be decided.

        A proposed record may be on one disk only, and be adopted much later.
        """
        votes = self.votes
        run = self._most_rounds()[0] if votes.last else None
        open_ = (values for at, values in votes.proposed.items() if run in (None, at[0]))
        return [value.roster for values in open_ for value in values.values()]

    def _most_rounds(self) -> tuple[str, int]:
        """Return the run with most rounds decided, and how many; one must be."""
        return max(self.votes.last.items(), key=lambda item: (item[1], item[0]))

    def _accepted(self, disk: Disk, effect: SaveAccepted) -> None:
        record = effect.record
        if not disk.blobs.issuperset(record.blobs.digests):
            raise Violation("possession", f"{short(disk)} accepts a record whose blobs it does not hold")
        self.work.accepted(record, self.votes.digest(record))
        self.votes.accepted(disk, effect)
        if self.votes.last.get(effect.run) == effect.round:
            self._check_possession(self.votes.chosen[effect.run, effect.round])

    def _collected(self, disk: Disk) -> None:
        for run, vote in disk.votes.items():
            is_open = vote.round > len(disk.commits.get(run, ()))
            # A journal that was put back names models that this device was free to delete long ago.
            is_put_back = disk.member in self.votes.gone
            matters = vote.accepted is not None and is_open and not is_put_back
            for digest in vote.accepted.blobs.digests if vote.accepted is not None and matters else ():
                if digest not in disk.blobs and (disk.member, digest) not in self._damaged:
                    raise Violation(
                        "possession",
                        f"{short(disk)} collected a blob it accepted in the open round {vote.round}",
                    )
            last = self.votes.last.get(run)
            if last is not None:
                self._check_possession(self.votes.chosen[run, last])

    def _check_input(self, disk: Disk, round_: int, digests: Iterable[str]) -> None:
        """Check that the blobs that a job reads are here; an empty digest stands for none.

        A member whose bytes of a blob were lost is excused: its worker finds that, and its job fails.
        """
        for digest in digests:
            if digest and not disk.has(digest) and (disk.member, digest) not in self._damaged:
                raise Violation("possession", f"{short(disk)} works in round {round_} on a blob it lacks")

    def _check_possession(self, chosen: Chosen) -> None:
        """Check that the blobs of a decided record are durable on a quorum.

        A member is excused whose disk, or whose bytes of a blob, were lost, and one that has left the run.
        """
        blobs, acceptors = chosen.record.blobs, chosen.acceptors
        for role, digest in zip(blobs.roles, blobs.digests, strict=True):
            holders, excused = 0, len(acceptors & self.votes.gone)
            for disk in self._disks():
                if disk.member in acceptors:
                    holders += digest in disk.blobs
                    excused += digest not in disk.blobs and (
                        chosen.record.run in disk.closed or (disk.member, digest) in self._damaged
                    )
            if holders + excused < quorum(len(chosen.voters)):
                raise Violation(
                    "possession",
                    f"the {role} of round {chosen.record.round} is durable on {holders} members, "
                    f"{quorum(len(chosen.voters))} accepted it",
                )
