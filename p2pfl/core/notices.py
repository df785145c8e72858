"""Publishes notices about the run for people, each once: ignored options, quorum, elections, lost work."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from p2pfl import events
from p2pfl.agreement import source_note
from p2pfl.core.context import Context
from p2pfl.core.ledger import Ledger
from p2pfl.core.local_trainer import LocalTrainer
from p2pfl.core.pausing import PAUSES, name_reasons
from p2pfl.core.roster import entry_of, selection
from p2pfl.core.stopping import STOPPED, unknown_target
from p2pfl.messages import Accept, Ballot, Collect, Commit
from p2pfl.spec import is_divided, partitions_of, shown_options

MISSING_SECONDS = 15.0
"""A member that takes part this long without a link to this node is reported. It is three times the longest
wait before a redial."""


def selected_members(ledger: Ledger, nodes: Collection[str]) -> events.MembersSelected:
    """Return the event which says that the members *nodes* are selected to train in the open round."""
    names = (entry.name for entry in ledger.roster if entry.node in nodes)
    return events.MembersSelected(ledger.round + 1, tuple(names))


@dataclass
class Notices:
    """State that lives as long as the node is in the run."""

    ctx: Context
    ledger: Ledger
    _has_quorum: bool = True
    _is_alone_told: bool = False
    _is_part_told: bool = False
    _is_selection_told: bool = False
    """Whether it was told who is selected to train in the open round."""
    _elected: Ballot | None = None
    """The ballot whose election was published last."""
    _told_missing: set[str] = field(default_factory=set)
    _told_sources: set[tuple[str, str]] = field(default_factory=set)
    """Task or strategy, and node of which it was told that this is another one."""
    _missing_since: dict[str, float] = field(default_factory=dict)
    """By member without a link to this node: when it was first seen to take part."""

    def joined(self, how: str) -> None:
        """Publish which run this node is in now, and *how* it entered it."""
        ledger = self.ledger
        members = tuple(entry.name for entry in ledger.roster)
        joined = msgspec.convert(
            {
                "event": "run_joined",
                "run": ledger.run,
                "how": how,
                "round": ledger.round,
                "spec": msgspec.structs.replace(ledger.spec, rounds=ledger.rounds),
                "members": members,
                "model": ledger.model,
                "trained": ledger.trained,
                "measures": ledger.agreement.measures,
                "classes": ledger.agreement.classes,
                "notes": ledger.agreement.notes,
            },
            events.RunJoined,
        )
        self.ctx.tell(joined)
        if how != "finished":
            for note in ledger.agreement.notes:
                self.ctx.warn(note)
            if flaw := unknown_target(ledger.spec.stopping, ledger.agreement):
                self.ctx.warn(f"{flaw}: it trains all its rounds")
            self.other_sources()

    def other_sources(self) -> None:
        """Tell, once for each, on which linked peers the task or the strategy has another source than here.

        A difference between founding members is a note of the agreement, and not told again.
        """
        own = self.ctx.card
        cards = {
            node: (peer.name, peer.card)
            for node, peer in self.ctx.peers.items()
            if peer.linked and peer.card is not None
        }
        if own is not None:
            tasks = {
                node: (name, card.source) for node, (name, card) in cards.items() if card.task == own.task
            }
            self._other_sources("task", own.source, tasks)
            strategies = {node: (name, card.strategy_source) for node, (name, card) in cards.items()}
            self._other_sources("strategy", own.strategy_source, strategies)

    def _other_sources(
        self, what: Literal["task", "strategy"], own: str, sources: Mapping[str, tuple[str, str]]
    ) -> None:
        """Tell of *sources*, name and digest by node, that differ from this device's *own*."""

        def is_noted(name: str) -> bool:
            return any(note.startswith(source_note(what, name)) for note in self.ledger.agreement.notes)

        if not own or is_noted(self.ctx.name):
            return
        found = {
            node: name
            for node, (name, source) in sources.items()
            if source not in ("", own) and (what, node) not in self._told_sources and not is_noted(name)
        }
        self._told_sources.update((what, node) for node in found)
        if found:
            self.ctx.warn(
                f"the source of the {what} on {', '.join(sorted(found.values()))} differs from that on this "
                "device: use the same file on all devices"
            )

    def ignored(self) -> None:
        """Publish the options that the operator gave and that differ from the run's."""
        ledger = self.ledger
        mine = shown_options(self.ctx.options.spec)
        theirs = shown_options(ledger.spec) | {"rounds": ledger.rounds}
        differences = tuple(
            f"{name.replace('_', ' ')} {value} (the run has {theirs.get(name, 'no such option')})"
            for name, value in mine.items()
            if name in self.ctx.options.given and value != theirs.get(name)
        )
        if differences:
            self.ctx.tell(events.OptionsIgnored(differences))

    def pause(self) -> None:
        """Publish why the run paused by itself, if it did, and what to do."""
        ledger = self.ledger
        if ledger.last is not None and ledger.is_paused and PAUSES in ledger.last.record.note:
            record = ledger.last.record
            note = record.note.replace(f", {PAUSES}", "")
            reasons = name_reasons({self.ctx.name_of(left.node): left.reason for left in record.left_out})
            text = f"the run is paused after round {ledger.trained}: {note} ({reasons})"
            self.ctx.warn(
                f"{text}. Remove the cause, then run `p2pfl resume`; options of the run itself, such as "
                "--lr, change with a new one only: stop all nodes and start them with --new-run"
            )

    def fate(self, commit: Commit, local_trainer: LocalTrainer, *, is_leaving: bool) -> None:
        """Publish why this member's own update is not in the record, if it is not.

        Where the run ends early no update counts, which the event of its end says.
        """
        has_worked = (
            local_trainer.update is not None
            or local_trainer.training
            or (local_trainer.declined and not is_leaving)
        )
        me = self.ctx.me.node
        if not has_worked or any(entry.node == me for entry in commit.record.updates):
            return
        reason = next(
            (left.reason for left in commit.record.left_out if left.node == me), "another record was adopted"
        )
        if reason != STOPPED:
            self.ctx.tell(events.UpdateRefused(commit.record.round, self.ctx.name, reason))

    def missing_pairs(self, commit: Commit) -> None:
        """Report, once, each member that takes part for long without a link to this node.

        A member that has just started takes part shortly before it is linked with every node.
        """
        apart = {
            entry.node for entry in commit.record.updates if not self.ctx.is_reachable(entry.node)
        } - self._told_missing
        now = self.ctx.now
        self._missing_since = {node: self._missing_since.get(node, now) for node in apart}
        for node, since in self._missing_since.items():
            down_since = self.ctx.unlinked_since(node)
            if now - max(since, down_since or since) >= MISSING_SECONDS:
                self._told_missing.add(node)
                name = self.ctx.name_of(node)
                self.ctx.warn(f"{name} takes part, but this device has no link to it: look at both firewalls")

    def open_round(self) -> None:
        """Forget what was published of the round before: a round with its own ballots begins."""
        self._elected, self._is_selection_told = None, False
        self._shared_part()

    def selection(self) -> None:
        """Publish, once a round, who is selected to train, unless all members are."""
        ledger = self.ledger
        if self._is_selection_told or ledger.next_kind != "train":
            return
        self._is_selection_told = True
        chosen = selection(ledger.run, ledger.round + 1, ledger.roster, ledger.spec)
        if len(chosen) < len(ledger.roster):
            self.ctx.tell(selected_members(ledger, chosen))

    def _shared_part(self) -> None:
        """Tell, once, that this member trains on a part of a public data set that another one has too."""
        task = self.ledger.spec.task
        if self._is_part_told or not is_divided(task) or not self.ledger.is_member:
            return
        self._is_part_told = True
        entry = entry_of(self.ledger.roster, self.ctx.me.node)
        assert entry is not None
        parts = partitions_of(task)
        if entry.slot >= parts:
            self.ctx.tell(
                events.Notice(
                    "info",
                    f"all {parts} parts of the data are taken: this device trains on part "
                    f"{entry.slot % parts + 1}, as another one does (a run founded with "
                    "--partitions has spare parts)",
                )
            )

    def elected(self, message: Accept | Collect) -> None:
        """Publish, once for each ballot, who was elected according to *message*."""
        ballot = message.ballot
        if ballot != self._elected:
            self._elected = ballot
            name = self.ctx.name_of(ballot.node)
            kind = self.ledger.next_kind
            self.ctx.tell(events.Elected(message.round, ballot.attempt, name, ballot.node, 0, kind))

    def quorum(self, reachable: int) -> float | None:
        """Publish when the quorum is lost or back; return when to call this again during the grace period."""
        members, needed = len(self.ledger.roster), self.ledger.needed
        grace_ends = self.ctx.started + self.ctx.settings.start_grace
        if reachable >= needed:
            if not self._has_quorum:
                self._has_quorum = True
                kind = self.ledger.next_kind
                self.ctx.tell(events.QuorumBack(self.ledger.round + 1, reachable, members, kind))
        elif self._has_quorum and self.ctx.now < grace_ends:
            return grace_ends
        elif self._has_quorum:
            self._has_quorum = False
            kind = self.ledger.next_kind
            self.ctx.tell(events.QuorumLost(self.ledger.round + 1, reachable, members, needed, kind))
            if reachable == 1 and self.ledger.next_kind == "evaluate" and not self._is_alone_told:
                self._is_alone_told = True
                self.ctx.warn(
                    "only the final evaluation is missing and nobody is there: "
                    "the run may be complete elsewhere"
                )
        return None
