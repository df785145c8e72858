"""The progress checker: a round must commit once a quorum was able to do its part for long enough.

A member is able if it runs, votes in the open round, has a worker that answers, and has the parent model or
can pull it now. A quorum is able if each two of its members are linked and can exchange messages and models
both ways. Then the other members, whatever they do - crash, hang, turn away, send unusable updates - must not
delay the next commit for longer than `BOUND`.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

from p2pfl.messages import RosterEntry, quorum
from p2pfl.sim.device import Device
from p2pfl.sim.environment import Environment
from p2pfl.sim.transfers import BlobTransfers
from p2pfl.sim.violation import Violation
from p2pfl.strategy_specs import least_updates

BOUND = 30.0
"""Seconds within which an able quorum must commit. The longest legitimate wait is for a member that cannot
pull a model: three tries of `GIVE_UP` in `transfers` and a second each, 18 s in all. The time limit of a
hanging worker, the silence of a suspended device and the training of the slowest device are about 10 s
each."""

LOOK = 1.0
"""Seconds between two checks."""


class PendingRound(NamedTuple):
    """The round to be decided next, as far as any running device knows."""

    run: str
    number: int
    roster: tuple[RosterEntry, ...]
    parent: tuple[str, ...]
    """Digests of the blobs of the last record."""
    waits: float
    """Seconds that the run's spec lets a round wait for missing updates."""


class ProgressChecker:
    """Checks the progress of one simulation again and again."""

    def __init__(self, environment: Environment, transfers: BlobTransfers, bound: float = BOUND) -> None:
        self._environment, self._transfers = environment, transfers
        self._bound = bound
        self._open: PendingRound | None = None
        self._opened = 0.0
        self._able: dict[tuple[str, int], float] = {}
        """Time since which each process is able."""
        self._pairs: dict[tuple[object, object], float] = {}
        """Time since which each link carries messages and models both ways."""

    def begin(self) -> None:
        """Check from now on."""
        self._environment.after(LOOK, self._look)

    def _look(self) -> None:
        self.check()
        self._environment.after(LOOK, self._look)

    def check(self) -> None:
        """Check now.

        Raises:
            Violation: a quorum was able for the bound, and nothing is decided.
        """
        now, open_ = self._environment.now, self._open_round()
        if open_ is None or self._open is None or open_[:2] != self._open[:2]:
            self._opened = now
        self._open = open_
        if open_ is None:
            self._able, self._pairs = {}, {}
            return
        able = [one for one in self._voters(open_) if self._is_able(one, open_)]
        self._able = {(one.name, one.process): self._able.get((one.name, one.process), now) for one in able}
        links = [(a, b, a.links[b.member.node]) for a, b in combinations(able, 2) if self._passes(a, b)]
        self._pairs = {
            (link, link.processes): self._pairs.get((link, link.processes), now) for _, _, link in links
        }
        since = now - self._bound - open_.waits
        if self._opened > since:
            return
        long = [one for one in able if self._able[one.name, one.process] <= since]
        pairs = {(a.name, b.name) for a, b, link in links if self._pairs[link, link.processes] <= since}
        group = clique([one.name for one in long], pairs, quorum(len(open_.roster)))
        if group:
            raise Violation(
                "stall",
                f"round {open_.number} of {open_.run[:7]} is open for {now - self._opened:.0f} s, although "
                f"{', '.join(group)} ({quorum(len(open_.roster))} of {len(open_.roster)} decide) were up, "
                f"linked with each other and able to do their part since {since:.0f} s",
            )

    def _open_round(self) -> PendingRound | None:
        """Return the round after the last one that any running device knows; None where no round is due."""
        ledgers = [one.node.ledger for one in self._environment.devices.values() if one.node is not None]
        known = [ledger for ledger in ledgers if ledger is not None]
        if not known:
            return None
        best = max(known, key=lambda ledger: (ledger.round, ledger.run))
        if not best.is_open:
            return None
        participation = best.spec.participation
        needed = max(participation.min_updates, least_updates(best.spec.strategy))
        waits = participation.round_cap if needed > 1 else 0.0
        return PendingRound(best.run, best.round + 1, best.roster, best.blobs.digests, waits)

    def _voters(self, open_: PendingRound) -> list[Device]:
        devices = (self._environment.devices[entry.node] for entry in open_.roster)
        return [one for one, entry in zip(devices, open_.roster, strict=True) if one.member == entry.member]

    def _is_able(self, device: Device, open_: PendingRound) -> bool:
        """Whether *device* can do its part in the open round now."""
        ledger = device.node.ledger if device.node is not None else None
        return (
            ledger is not None
            and ledger.run == open_.run
            and not ledger.halted
            and not (device.is_frozen or device.is_restored or device.has_turned_away or device.is_leaving)
            and device.hung_until <= self._environment.now
            and all(self._can_have(device, digest) for digest in open_.parent)
        )

    def _can_have(self, device: Device, digest: str) -> bool:
        if device.disk.is_whole(digest):
            return True
        ends = (link.end_of(device) for link in device.links.values() if link.is_current)
        return any(one.disk.is_whole(digest) and self._transfers.passes(one, device) for one in ends)

    def _passes(self, one: Device, other: Device) -> bool:
        """Whether two devices are linked and can exchange messages and models both ways."""
        link, transfers = one.links.get(other.member.node), self._transfers
        return (
            link is not None
            and link.is_current
            and transfers.passes(one, other)
            and transfers.passes(other, one)
        )


def clique(names: list[str], pairs: set[tuple[str, str]], size: int) -> tuple[str, ...]:
    """Return *size* of *names* such that each two of them are in *pairs*; empty where there are not as many.

    Each name is added to every group whose members are all paired with it: exact, and fast for a few names.
    """
    groups: list[tuple[str, ...]] = [()]
    for name in names:
        for group in list(groups):
            if all((known, name) in pairs for known in group):
                grown = (*group, name)
                if len(grown) == size:
                    return grown
                groups.append(grown)
    return ()
