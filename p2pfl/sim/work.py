"""The work checker: every update is counted once, in its round, or its member is told why not."""

from __future__ import annotations

from p2pfl import events
from p2pfl.core.effects import SaveCommit, SaveGenesis, Train
from p2pfl.messages import Member, Record, record_digest
from p2pfl.sim.device import average_of
from p2pfl.sim.disk import Disk
from p2pfl.sim.trace import SHORT
from p2pfl.sim.violation import Violation
from p2pfl.sim.votes import short


class WorkChecker:
    """Checks what becomes of every update."""

    def __init__(self) -> None:
        self.updates: dict[str, tuple[str, int, str]] = {}
        """Run, round and parent model that each update was trained for, by its digest."""
        self._models: dict[str, str] = {}
        """The model of every record that any member accepted, by the record's digest."""
        self._offered: dict[Member, str] = {}
        """The update of each running member for its open round: trained, or reused after a restart."""

    def founded(self, effect: SaveGenesis) -> None:
        """Record the initial model."""
        self._models[effect.run] = effect.genesis.model

    def accepted(self, record: Record, digest: str) -> None:
        """Check the updates that a record counts."""
        self._models[digest] = record.model
        nodes = [update.node for update in record.updates]
        if len(set(nodes)) != len(nodes):
            raise Violation("update", f"an update counted twice in round {record.round}")
        due = (record.run, record.round, self._models.get(record.previous))
        for update in record.updates:
            trained = self.updates.get(update.digest)
            if trained != due:
                origin = f"of round {trained[1]} from {trained[2][:SHORT]}" if trained else "nobody trained"
                raise Violation("update", f"an update {origin} counted in round {record.round}")
        folded = sorted(update.digest for update in record.updates)
        if folded and record.model != average_of(record.ballot, folded):
            raise Violation(
                "update",
                f"the model of round {record.round} is not the average of its updates, each counted once",
            )

    def begun(self, disk: Disk, effect: Train) -> None:
        """Check a training that begins: none may begin while its update is here whole."""
        update = disk.updates.get(effect.run)
        if update is None or update[0] != effect.round or not disk.has(update[2].digest):
            return
        commits = disk.commits[effect.run]
        if update[1] == (record_digest(commits[-1].record) if commits else effect.run):
            raise Violation("work", f"work lost: {short(disk)} trains twice in round {effect.round}")

    def told(self, disk: Disk, name: str, event: events.AnyEvent) -> None:
        """Record what a member is told about its own update."""
        if isinstance(event, events.TrainingFinished | events.UpdateReused):
            self._offered[disk.member] = event.digest
        elif isinstance(event, events.UpdateRefused) and event.name == name:
            self._offered.pop(disk.member, None)

    def committed(self, disk: Disk, effect: SaveCommit) -> None:
        """Check that a commit counts the member's update, or leaves it out with a reason."""
        digest, record = self._offered.get(disk.member), effect.commit.record
        if digest is None or self.updates[digest][:2] != (record.run, record.round):
            return
        del self._offered[disk.member]
        counted = any(update.digest == digest for update in record.updates)
        reasons = [left.reason for left in record.left_out if left.node == disk.member.node]
        if not counted and not any(reasons):
            raise Violation(
                "work",
                f"work lost: {short(disk)} trained for round {record.round}, is not counted, "
                "and nobody says why",
            )

    def stopped(self, member: Member) -> None:
        """Forget the update of a process that ended."""
        self._offered.pop(member, None)
