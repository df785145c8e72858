"""The work checker: every update is counted once, in its round, or its member is told why not."""

from __future__ import annotations

import math

from p2pfl import events
from p2pfl.cards import Agreement, DataCard
from p2pfl.core.effects import SaveCommit, SaveGenesis, Train
from p2pfl.core.roster import selection
from p2pfl.messages import Collect, Member, Record, RosterEntry, record_digest
from p2pfl.sim.device import EVALUATION, aggregate_of
from p2pfl.sim.disk import Disk
from p2pfl.sim.trace import SHORT
from p2pfl.sim.violation import Violation
from p2pfl.sim.votes import short
from p2pfl.spec import RunSpec


class WorkChecker:
    """Checks what becomes of every update."""

    def __init__(self) -> None:
        self.updates: dict[str, tuple[str, int, str]] = {}
        """Run, round and parent model that each update was trained for, by its digest."""
        self.cards: dict[str, DataCard] = {}
        """The data card of the device that trained each update, by the update's digest."""
        self._agreements: dict[str, Agreement] = {}
        self._rosters: dict[str, tuple[RosterEntry, ...]] = {}
        """The roster that votes after a record that any member accepted, by the record's digest."""
        self._models: dict[str, str] = {}
        """The model of every record that any member accepted, by the record's digest."""
        self._records: dict[str, Record] = {}
        """Every record that any member accepted, by its digest."""
        self._specs: dict[str, RunSpec] = {}
        """The spec of each run."""
        self.asked: dict[tuple[str, int], set[str]] = {}
        """By run and round: the members that an aggregator asked for an update, and the aggregators."""
        self._offered: dict[Member, str] = {}
        """The update of each running member for its open round: trained, or reused after a restart."""

    def founded(self, effect: SaveGenesis) -> None:
        """Record the initial model."""
        self._models[effect.run] = effect.genesis.model
        self._agreements[effect.run] = effect.genesis.agreement
        self._rosters[effect.run] = effect.genesis.roster
        self._specs[effect.run] = effect.genesis.spec

    def collects(self, sender: str, to: str, message: Collect) -> None:
        """Record whom an aggregator asks for an update: perhaps *to*, and perhaps itself."""
        asked = self.asked.setdefault((message.run, message.round), set())
        asked.update({sender, to} if message.selected else {sender})

    def accepted(self, record: Record, digest: str) -> None:
        """Check the content and the updates of a record."""
        self._models[digest], self._rosters[digest] = record.model, record.roster
        self._records[digest] = record
        self._check_content(record)
        self._check_stopping(record)
        self._check_sampling(record)
        nodes = [update.node for update in record.updates]
        if len(set(nodes)) != len(nodes):
            raise Violation("update", f"an update counted twice in round {record.round}")
        due = (record.run, record.round, self._models.get(record.previous))
        for update in record.updates:
            trained = self.updates.get(update.digest)
            if trained != due:
                origin = f"of round {trained[1]} from {trained[2][:SHORT]}" if trained else "nobody trained"
                raise Violation("update", f"an update {origin} counted in round {record.round}")
        if nodes != sorted(nodes):
            raise Violation("update", f"the updates of round {record.round} are not in the order of node ids")
        parent = self._models.get(record.previous, "")
        if record.updates and record.model != aggregate_of(parent, record.updates):
            raise Violation(
                "update", f"the model of round {record.round} is not the aggregate of the updates it names"
            )

    def _check_content(self, record: Record) -> None:
        """Judge whether a record holds what its run decides, and nothing else."""
        stated = {entry.node: entry.examples for entry in self._rosters.get(record.previous, ())}
        if record.blobs.state or any(update.blobs.control for update in record.updates):
            raise Violation(
                "content", f"the record of round {record.round} names a blob its run does not have"
            )
        if any(one.evaluation.names != EVALUATION.names for one in record.evaluations):
            raise Violation("content", f"other metrics are evaluated in round {record.round}")
        for update in record.updates:
            if update.examples > stated.get(update.node, update.examples):
                raise Violation("content", f"an update in round {record.round} counts more than was stated")
            card = self.cards.get(update.digest)
            if card is not None and card.classes != self._agreements[record.run].classes:
                raise Violation("content", f"an update of other data counted in round {record.round}")

    def _check_sampling(self, record: Record) -> None:
        """Judge whether the selected members are in a record, and updates of nobody who was not asked."""
        roster = self._rosters.get(record.previous)
        if roster is None or record.kind != "train":
            return
        selected = selection(record.run, record.round, roster, self._specs[record.run])
        counted = {update.node for update in record.updates}
        if strangers := counted - selected - self.asked.get((record.run, record.round), set()):
            raise Violation(
                "update", f"{len(strangers)} updates in round {record.round} are of members nobody selected"
            )
        if selected - counted - {left.node for left in record.left_out}:
            raise Violation("update", f"round {record.round} does not say what became of all it selected")

    def _check_stopping(self, record: Record) -> None:
        """Judge whether a record ends the run early exactly where its evaluations meet the run's rule."""
        is_due = self._is_stopping_due(record)
        if record.kind == "train" and is_due:
            raise Violation("content", f"round {record.round} trains, although the run is to end early")
        if record.kind == "evaluate" and record.trained < record.rounds and not is_due:
            raise Violation("content", f"round {record.round} ends the run early, and nothing asks for that")

    def _is_stopping_due(self, record: Record) -> bool:
        """Whether the accuracies of the models up to the parent of *record* meet the rule of its run.

        They are collected from the whole chain each time, unlike in the core, which carries sums along.
        """
        rule = self._specs[record.run].stopping
        target = rule.until.value if rule.until is not None else math.inf
        accuracies: list[float] = []
        newest: float | None = None
        since_end, is_open = 0, True
        at: Record | None = record
        while at is not None and (parent := self._records.get(at.previous)) is not None:
            is_open = is_open and (at is record or at.then != "end")
            accuracy = _accuracy(parent, at)
            if accuracy is not None:
                accuracies.insert(0, accuracy)
                since_end += is_open
                newest = accuracy if at is record else newest
            at = parent
        if newest is None:
            return False
        earlier = accuracies[:-1]
        if newest >= target and not any(one >= target for one in earlier):
            return True
        best = max(range(len(accuracies)), key=lambda place: (accuracies[place], -place))
        return 0 < rule.patience <= min(len(accuracies) - 1 - best, since_end)

    def begun(self, disk: Disk, effect: Train) -> None:
        """Check a training that begins: none may begin while its update is here whole."""
        job = effect.job
        update = disk.updates.get(job.run)
        if update is None or update[0] != job.round or not disk.has(update[2].digest):
            return
        commits = disk.commits[job.run]
        if update[1] == (record_digest(commits[-1].record) if commits else job.run):
            raise Violation("work", f"work lost: {short(disk)} trains twice in round {job.round}")

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


def _accuracy(parent: Record, record: Record) -> float | None:
    """Return the accuracy of the model of *parent* in *record*; None if it does not count.

    It counts if the model was trained in that round, and a majority evaluated it.
    """
    parts = [one.evaluation for one in record.evaluations]
    if parent.kind != "train" or 2 * len(parts) <= len(parent.roster):
        return None
    return sum(one.sums["accuracy"] for one in parts) / sum(one.examples for one in parts)
