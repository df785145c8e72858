"""The rules on which the protocol's safety rests, and how to leave each of them out.

A checker that never finds anything proves nothing. So each rule can be left out of a whole simulated
federation, through switches meant for that (`p2pfl.core.options.Policy` for decisions of the core,
`DriverRules` for drivers). The checker must then find a violation of the stated kind within the stated number
of seeds. A test holds that, and `p2pfl simulate --without RULE` shows it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from p2pfl.core.lease import LeaderLease
from p2pfl.core.options import Policy, highest_accepted
from p2pfl.messages import Commit, Member, quorum
from p2pfl.proofs import Verify
from p2pfl.sim.device import Device
from p2pfl.sim.driver_rules import ALL_RULES, DriverRules
from p2pfl.sim.faults import BANS, NETWORK, Faults
from p2pfl.sim.violation import Kind


class Rule(msgspec.Struct, frozen=True):
    """One rule, and a federation without it."""

    text: str
    """The rule in words."""
    kind: Kind
    """The invariant that is violated without the rule."""
    seeds: int
    """Number of seeds, from 0, within which that must show: a few times the number needed when the rule was
    written."""
    faults: Faults
    """The faults with which it shows soonest."""
    policy: Callable[[Device], Policy] | None = None
    """Makes the policy of each device's core without the rule."""
    driver_rules: DriverRules = ALL_RULES
    """The rules that each device's driver still keeps."""

    def apply(self, device: Device) -> None:
        """Leave the rule out of *device*, which must not run yet."""
        if self.policy is not None:
            device.policy = self.policy(device)
        device.driver_rules = self.driver_rules


def _by_name(commit: Commit, voters: set[Member], _verify: Verify) -> set[Member]:
    """Take every named member for an acceptor, without a check of its signature."""
    return {vote.member for vote in commit.acceptors} & voters


SPLIT = msgspec.structs.replace(NETWORK, cut_every=4.0, cut=8.0)
"""The network is cut most of the time."""

DISKS = Faults(lose_disk_every=8.0, restore_disk_every=8.0, crash_every=8.0, down=1.0)
"""Data directories are lost and restored from backups, as often as the protocol tolerates."""

PARTED = Faults(cut_every=3.0, cut=2.0, slow_node=1.0)
"""The network is cut often and briefly, and one device trains slowly."""

AIMED = Faults(aimed=0.08, aimed_value=0.3, drop=0.05, slow=0.1, message_loss_every=10.0, down=3.0)
"""Devices fail at steps of the protocol, and messages are late."""

STARTS = Faults(aimed_first=0.3)
"""Proposers crash after others have accepted their value, and before they have."""

BITS = Faults(damage_every=0.5, crash_every=2.0, down=0.5)
"""Models on disks are corrupted."""

STRAYS = Faults(turn_away_every=5.0, away=60.0)
"""Members leave the run and stay linked."""

HANGS = Faults(hang=0.03)
"""Some jobs of workers hang."""

WALLS = Faults(unpullable=1.0, until=200.0)
"""No device can pull from one of them."""

FORGERS = Faults(forge_every=2.0, crash_every=10.0, down=2.0)
"""Commits that no member has accepted are sent around."""

GARBLERS = Faults(garbled=0.2)
"""Records are garbled on their way."""

FAILING = Faults(fail=0.3)
"""Many jobs of workers fail."""

MIXED = Faults(other_data_every=5.0)
"""Devices are started with other data."""

PULLS = Faults(aimed=0.12, aimed_value=0.1, slow=0.05, cut_every=8.0, down=2.0, pull=6.0)
"""Devices fail at steps of the protocol, and pulls are slow."""


def _adopting_what_it_holds(device: Device) -> Policy:
    """Propose an own value where the bytes of the value to adopt are missing."""

    def adopt(found: object) -> object:
        record = highest_accepted(found)  # type: ignore[arg-type]
        is_held = record is None or device.disk.blobs.issuperset(record.blobs.digests)
        return record if is_held else None

    return Policy(adopt=adopt)  # type: ignore[arg-type]


RULES = {
    "adoption": Rule(
        "an accepted value is proposed again, never an own one",
        "agreement",
        10,
        AIMED,
        policy=lambda _: Policy(adopt=lambda _found: None),
    ),
    "second-check": Rule(
        "after the pull, in the transaction that accepts, the promise is checked again",
        "monotone",
        10,
        PULLS,
        policy=lambda _: Policy(permits=lambda _promised, _ballot: True),
    ),
    "adopted-bytes": Rule(
        "an own value is not proposed either when the bytes of the one to adopt are missing",
        "agreement",
        60,
        PULLS,
        policy=_adopting_what_it_holds,
    ),
    "pins": Rule(
        "the blob of a value accepted in an open round is not deleted",
        "possession",
        3,
        AIMED,
        driver_rules=DriverRules(spares_accepted=False),
    ),
    "quorum": Rule(
        "a quorum is a majority of the roster, never of those alive",
        "agreement",
        5,
        SPLIT,
        policy=lambda device: Policy(quorum=lambda _size: quorum(1 + len(device.links))),
    ),
    "lowest-ballot": Rule(
        "only the member first in rank aggregates without asking for votes",
        "agreement",
        10,
        AIMED,
        policy=lambda _: Policy(lowest=lambda _order, _node: True),
    ),
    "lowest-promise": Rule(
        "a proposer's promise of the lowest ballot is on disk before its ACCEPT",
        "ballot",
        20,
        STARTS,
        driver_rules=DriverRules(saves_lowest=False),
    ),
    "flush": Rule(
        "no answer is sent before the vote is on disk",
        "durability",
        1,
        AIMED,
        driver_rules=DriverRules(flushes_first=False),
    ),
    "new-ballot": Rule(
        "an old ballot is never resumed, not even after a restart",
        "ballot",
        50,
        AIMED,
        policy=lambda _: Policy(attempt=lambda _promised, refused: refused + 1),
    ),
    "bytes": Rule(
        "a record is accepted only when its blobs are durable",
        "possession",
        1,
        AIMED,
        driver_rules=DriverRules(pulls_first=False),
    ),
    "order": Rule(
        "the updates of a record are aggregated in the order of their node ids, whoever aggregates them",
        "update",
        3,
        AIMED,
        policy=lambda _: Policy(order=list),
    ),
    "parent": Rule(
        "an update counts only in the round, and with the parent, that it was trained for",
        "update",
        40,
        PARTED,
        policy=lambda _: Policy(fits=lambda _result, _due: True),
    ),
    "mending": Rule(
        "a blob with wrong bytes is deleted and pulled again",
        "progress",
        15,
        BITS,
        driver_rules=DriverRules(mends_blobs=False),
    ),
    "presence": Rule(
        "the round does not wait for a linked member that is in another run, or in none",
        "stall",
        15,
        STRAYS,
        policy=lambda _: Policy(takes_part=lambda _says, _run, _is_begun: True),
    ),
    "hanging": Rule(
        "a hanging worker is killed, and its job fails",
        "stall",
        15,
        HANGS,
        driver_rules=DriverRules(ends_hanging=False),
    ),
    "lease": Rule(
        "only a candidate's progress renews its leader lease",
        "stall",
        15,
        WALLS,
        policy=lambda _: Policy(lease=lambda _known, ballot, step, now: LeaderLease(ballot, step, now, now)),
        driver_rules=DriverRules(tells_undelivered=False),  # by which the candidate would notice
    ),
    "undelivered": Rule(
        "a candidate whose model cannot be pulled is told so, and steps down",
        "stall",
        15,
        WALLS,
        driver_rules=DriverRules(tells_undelivered=False),
    ),
    "new-journal": Rule(
        "a node that lost its disk does not vote as the member it was",
        "identity",
        5,
        DISKS,
        policy=lambda _: Policy(current=lambda _votes, _seen: True),
        driver_rules=DriverRules(
            renews_journal=False, judges_incarnations=False
        ),  # which would notice it as well
    ),
    "incarnations": Rule(
        "a journal restored from a backup is refused",
        "identity",
        20,
        DISKS,
        policy=lambda _: Policy(current=lambda _votes, _seen: True),  # which would notice it as well
        driver_rules=DriverRules(judges_incarnations=False),
    ),
    "votes": Rule(
        "a journal that has forgotten votes is refused, however often it was started",
        "identity",
        20,
        DISKS,
        policy=lambda _: Policy(current=lambda _votes, _seen: True),
        driver_rules=DriverRules(counts_votes=False),
    ),
    "roles": Rule(
        "a record is accepted only with the blobs its run's specification asks for",
        "content",
        10,
        GARBLERS,
        policy=lambda _: Policy(roles=lambda _record, _spec: ""),
    ),
    "metrics": Rule(
        "only evaluations of the run's own metrics are added",
        "content",
        10,
        GARBLERS,
        policy=lambda _: Policy(metrics=lambda _evaluation, _agreement: ""),
    ),
    "counts": Rule(
        "no update counts more examples than its member's data card stated",
        "content",
        10,
        GARBLERS,
        policy=lambda _: Policy(counts=lambda _update, _entry: ""),
    ),
    "state": Rule(
        "a record without updates repeats the model and the state of the record before it",
        "content",
        60,
        GARBLERS,
        policy=lambda _: Policy(keeps=lambda _record, _parent: ""),
    ),
    "least-updates": Rule(
        "no record counts fewer updates than its run's strategy needs",
        "content",
        30,
        FAILING,
        policy=lambda _: Policy(enough=lambda _counted, _spec: ""),
    ),
    "data": Rule(
        "who has other data than the members agreed on trains nothing",
        "content",
        10,
        MIXED,
        policy=lambda _: Policy(data=lambda _task, _agreement, _card: ""),
    ),
    "stopping": Rule(
        "a record whose evaluations meet the rule for stopping early ends the run, and no other does",
        "content",
        10,
        NETWORK,
        policy=lambda _: Policy(stops=lambda _stopping, _measures, _history, _found: (False, "")),
    ),
    "bans": Rule(
        "who knows that a member is banned proposes no record with it or its update",
        "roster",
        10,
        BANS,
        policy=lambda _: Policy(excludes=lambda _reason: False),
    ),
    "signatures": Rule(
        "a commit is believed for the signatures of its acceptors, not for their names",
        "agreement",
        5,
        FORGERS,
        policy=lambda _: Policy(proven=_by_name),
    ),
}
"""By name, for the command line."""
