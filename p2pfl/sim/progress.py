"""The judge of progress: with a quorum able to do its part for long enough, a round commits.

Able is who runs, votes in the open round, has a worker that answers, and holds the parent or can pull it now.
A quorum is able when each pair of it is linked and messages and models come through both ways. What the
others do - crash, hang, turn away, send what cannot be used - must not keep it from the next commit for
longer than `BOUND`.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

from p2pfl.messages import RosterEntry, quorum
from p2pfl.sim.device import Device
from p2pfl.sim.environment import Environment
from p2pfl.sim.transfers import BlobTransfers
from p2pfl.sim.violation import Violation

BOUND = 30.0
"""Seconds within which a quorum that is able commits. The longest honest wait is for a member that cannot
pull a model: three tries, each of which takes `bulk.GIVE_UP` and a second, 18 in all. A hanging worker's
limit, the silence of a suspended device and the training of the slowest are about 10 each."""

LOOK = 1.0
"""Seconds between two looks."""


class OpenRound(NamedTuple):
    """What is to be decided next, as far as anybody who runs knows."""

    run: str
    number: int
    roster: tuple[RosterEntry, ...]
    parent: str
    waits: float
    """Seconds the run's own spec lets a round wait for updates that do not come."""


class ProgressChecker:
    """Looks at one simulation again and again."""

    def __init__(self, environment: Environment, bulk: BlobTransfers, bound: float = BOUND) -> None:
        self._environment, self._transfers = environment, bulk
        self._bound = bound
        self._open: OpenRound | None = None
        self._opened = 0.0
        self._able: dict[tuple[str, int], float] = {}
        """Since when each process is able."""
        self._pairs: dict[tuple[object, object], float] = {}
        """Since when the link of each pair carries all both ways."""

    def begin(self) -> None:
        """Look from now on."""
        self._environment.after(LOOK, self._look)

    def _look(self) -> None:
        self.judge()
        self._environment.after(LOOK, self._look)

    def judge(self) -> None:
        """Judge this moment.

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

    def _open_round(self) -> OpenRound | None:
        """Return the round after the last one that any running device knows; None where none is wanted."""
        ledgers = [one.node.ledger for one in self._environment.devices.values() if one.node is not None]
        known = [ledger for ledger in ledgers if ledger is not None]
        if not known:
            return None
        best = max(known, key=lambda ledger: (ledger.round, ledger.run))
        if not best.is_open:
            return None
        waits = best.spec.round_cap if best.spec.min_updates > 1 else 0.0
        return OpenRound(best.run, best.round + 1, best.roster, best.model, waits)

    def _voters(self, open_: OpenRound) -> list[Device]:
        devices = (self._environment.devices[entry.node] for entry in open_.roster)
        return [one for one, entry in zip(devices, open_.roster, strict=True) if one.member == entry.member]

    def _is_able(self, device: Device, open_: OpenRound) -> bool:
        """Whether *device* can do its part in the open round now, or needs only what others can give it."""
        ledger = device.node.ledger if device.node is not None else None
        return (
            ledger is not None
            and ledger.run == open_.run
            and not ledger.halted
            and not (device.is_frozen or device.is_restored or device.has_turned_away or device.is_leaving)
            and device.hung_until <= self._environment.now
            and self._can_have(device, open_.parent)
        )

    def _can_have(self, device: Device, digest: str) -> bool:
        if device.disk.is_whole(digest):
            return True
        ends = (link.end_of(device) for link in device.links.values() if link.is_current)
        return any(one.disk.is_whole(digest) and self._transfers.passes(one, device) for one in ends)

    def _passes(self, one: Device, other: Device) -> bool:
        """Whether two devices are linked, and messages and models come through both ways."""
        link, bulk = one.links.get(other.member.node), self._transfers
        return link is not None and link.is_current and bulk.passes(one, other) and bulk.passes(other, one)


def clique(names: list[str], pairs: set[tuple[str, str]], size: int) -> tuple[str, ...]:
    """Return *size* of *names* of which each two are one of *pairs*; none where there are not as many.

    Names are given one by one to groups that know them all: exact, and fast for the few that matter.
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
