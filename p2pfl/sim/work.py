"""The work checker: every update is counted once, in its round, or its member is told why not."""

from __future__ import annotations

import math

from p2pfl import events
from p2pfl.cards import DataCard
from p2pfl.core.effects import SaveCommit, SaveGenesis, Train
from p2pfl.core.roster import selection
from p2pfl.messages import (
    Collect,
    Genesis,
    Member,
    Record,
    RecordBlobs,
    RosterEntry,
    record_digest,
)
from p2pfl.sim.device import EVALUATION, aggregate_of
from p2pfl.sim.disk import Disk
from p2pfl.sim.trace import SHORT
from p2pfl.sim.violation import Violation
from p2pfl.sim.votes import short
from p2pfl.strategy_specs import control_slots, least_updates, state_slots
from p2pfl.work import TrainingJob, TrainingResult


class WorkChecker:
    """Checks what becomes of every update."""

    def __init__(self) -> None:
        self.updates: dict[str, tuple[str, int, RecordBlobs]] = {}
        """Run, round and blobs of the parent that each update was trained for, by its digest."""
        self._controls: dict[str, str] = {}
        """The control of each update, by the update's digest; empty if it has none."""
        self._cards: dict[str, DataCard] = {}
        """The data card of the device that trained each update, by the update's digest."""
        self._geneses: dict[str, Genesis] = {}
        """Record 0 of each run."""
        self._rosters: dict[str, tuple[RosterEntry, ...]] = {}
        """The roster that votes after a record that any member accepted, by the record's digest."""
        self._blobs: dict[str, RecordBlobs] = {}
        """The blobs of every record that any member accepted, by the record's digest."""
        self._records: dict[str, Record] = {}
        """Every record that any member accepted, by its digest."""
        self.asked: dict[tuple[str, int], set[str]] = {}
        """By run and round: the members that an aggregator asked for an update, and the aggregators."""
        self._offered: dict[Member, str] = {}
        """The update of each running member for its open round: trained, or reused after a restart."""

    def founded(self, effect: SaveGenesis) -> None:
        """Record the initial model; check that a run begins with the blobs of the one that it continues."""
        genesis = effect.genesis
        self._geneses[effect.run] = genesis
        self._blobs[effect.run], self._rosters[effect.run] = genesis.blobs, genesis.roster
        origin = genesis.continues[-1].record if genesis.continues else ""
        if genesis.blobs != self._blobs.get(origin, RecordBlobs(genesis.model)):
            raise Violation("content", f"record 0 of run {effect.run[:SHORT]} begins with other blobs")

    def trained(self, job: TrainingJob, result: TrainingResult, card: DataCard) -> None:
        """Record what *job* of a device with the data card *card* has given."""
        self.updates[result.digest] = (job.run, job.round, RecordBlobs(job.model, job.state))
        self._controls[result.digest] = result.control
        self._cards[result.digest] = card

    def collects(self, sender: str, to: str, message: Collect) -> None:
        """Record whom an aggregator asks for an update: perhaps *to*, and perhaps itself."""
        asked = self.asked.setdefault((message.run, message.round), set())
        asked.update({sender, to} if message.selected else {sender})

    def accepted(self, record: Record, digest: str) -> None:
        """Check the content and the updates of a record."""
        self._blobs[digest], self._rosters[digest] = record.blobs, record.roster
        self._records[digest] = record
        self._check_content(record)
        self._check_stopping(record)
        self._check_sampling(record)
        nodes = [update.node for update in record.updates]
        if len(set(nodes)) != len(nodes):
            raise Violation("update", f"an update counted twice in round {record.round}")
        parent = self._blobs.get(record.previous)
        due = (record.run, record.round, parent)
        for update in record.updates:
            trained = self.updates.get(update.digest)
            if trained != due:
                origin = (
                    f"of round {trained[1]} from {trained[2].model[:SHORT]}" if trained else "nobody trained"
                )
                raise Violation("update", f"an update {origin} counted in round {record.round}")
        if nodes != sorted(nodes):
            raise Violation("update", f"the updates of round {record.round} are not in the order of node ids")
        spec = self._geneses[record.run].spec
        if record.updates and parent and record.blobs != aggregate_of(spec, parent, record.updates):
            what = "model" if record.model != aggregate_of(spec, parent, record.updates).model else "state"
            raise Violation(
                "update", f"the {what} of round {record.round} is not the aggregate of the updates it names"
            )

    def _check_content(self, record: Record) -> None:
        """Judge whether a record holds what its run decides, and nothing else."""
        stated = {entry.node: entry.examples for entry in self._rosters.get(record.previous, ())}
        self._check_blobs(record)
        if any(one.evaluation.names != EVALUATION.names for one in record.evaluations):
            raise Violation("content", f"other metrics are evaluated in round {record.round}")
        for update in record.updates:
            if update.examples > stated.get(update.node, update.examples):
                raise Violation("content", f"an update in round {record.round} counts more than was stated")
            card = self._cards.get(update.digest)
            if card is not None and card.classes != self._geneses[record.run].agreement.classes:
                raise Violation("content", f"an update of other data counted in round {record.round}")

    def _check_blobs(self, record: Record) -> None:
        """Judge whether a record names the blobs that its strategy has, and changes them only by updates."""
        strategy, parent = self._geneses[record.run].spec.strategy, self._blobs.get(record.previous)
        has_state = bool(state_slots(strategy))
        if not record.updates:
            if parent is not None and record.blobs != parent:
                raise Violation("content", f"round {record.round} has no update, and other blobs")
        elif bool(record.blobs.state) != has_state:
            what = "lacks its state" if has_state else "names a blob its run does not have"
            raise Violation("content", f"the record of round {record.round} {what}")
        if 0 < len(record.updates) < least_updates(strategy):
            raise Violation("content", f"round {record.round} counts {len(record.updates)} updates, too few")
        for update in record.updates:
            if update.digest in self._controls and update.blobs.control != self._controls[update.digest]:
                raise Violation("content", f"an update in round {record.round} has another control")
            if bool(update.blobs.control) != bool(control_slots(strategy)):
                raise Violation("content", f"an update in round {record.round} lacks a blob, or has one more")

    def _check_sampling(self, record: Record) -> None:
        """Judge whether the selected members are in a record, and updates of nobody who was not asked."""
        roster = self._rosters.get(record.previous)
        if roster is None or record.kind != "train":
            return
        selected = selection(record.run, record.round, roster, self._geneses[record.run].spec)
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
        rule = self._geneses[record.run].spec.stopping
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
        """Check a training that begins: its memory, and that its update is not here whole already."""
        job = effect.job
        self._check_memory(disk, job)
        update = disk.updates.get(job.run)
        if update is None or update[0] != job.round or not disk.has_update(update[2]):
            return
        commits = disk.commits[job.run]
        if update[1] == (record_digest(commits[-1].record) if commits else job.run):
            raise Violation("work", f"work lost: {short(disk)} trains twice in round {job.round}")

    def _check_memory(self, disk: Disk, job: TrainingJob) -> None:
        """Check that *job* remembers the member's last update that a record up to its parent counts."""
        genesis = self._geneses.get(job.run)
        if genesis is None or genesis.continues:
            return
        blobs = RecordBlobs(job.model, job.state)
        at = (job.run, job.round - 1, blobs)
        parents = [one for one in self._records.values() if (one.run, one.round, one.blobs) == at]
        allowed = {self._last_update(parent, disk.member.node) for parent in parents}
        if allowed and job.memory not in allowed:
            raise Violation("work", f"{short(disk)} trains with another memory in round {job.round}")

    def _last_update(self, record: Record, node: str) -> str:
        """Return the last update of *node* that *record* or one before it counts; empty without one."""
        at: Record | None = record
        while at is not None:
            for update in at.updates:
                if update.node == node:
                    return update.digest
            at = self._records.get(at.previous)
        return ""

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
