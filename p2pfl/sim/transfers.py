"""Simulated transfers of model files: over connections of their own, which may fail while messages arrive.

A device may be unable to pull from another one, or no device may be able to pull from it, although their link
is up: a firewall lets one kind of connection through and not the other. Bytes may be wrong: a disk lost some,
or an update never fits the run's schema. This module does what a driver does about each of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from p2pfl.config import NetSettings
from p2pfl.core import inputs
from p2pfl.core.effects import Fetch
from p2pfl.messages import Member
from p2pfl.sim.device import Device
from p2pfl.sim.environment import Environment, Processes
from p2pfl.sim.network import Network

BLOB_FLUSH = 0.05
"""Maximum seconds from the arrival of a blob until it is on disk."""

GIVE_UP = NetSettings().dial_seconds
"""Seconds until a device gives up pulling from a linked device."""


class BlobTransfers:
    """All transfers of one simulation."""

    def __init__(self, environment: Environment, network: Network, processes: Processes) -> None:
        self._environment, self._network, self._processes = environment, network, processes
        self.blocked: set[tuple[str, str]] = set()
        """Pairs of (holder, puller) between which neither side can open a bulk connection."""
        self.invalid_updates: set[str] = set()
        """Updates whose bytes have the announced digest, but do not fit the run's schema."""
        self.give_up = GIVE_UP
        self.damaged: set[tuple[Member, str]] = set()
        """Members and the blobs whose bytes their disk ever lost; the checker excuses these."""

    # --- faults ---------------------------------------------------------------------------------------------

    def block(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Block transfers from the first node of each pair to the second."""
        self.blocked.update(pairs)

    def unblock(self, pairs: Iterable[tuple[str, str]]) -> None:
        """End what `block` began."""
        self.blocked.difference_update(pairs)

    def damage(self, device: Device, digest: str) -> None:
        """Corrupt the bytes of a blob on the disk of *device*."""
        device.disk.damaged.add(digest)
        self.damaged.add((device.member, digest))

    def passes(self, holder: Device, puller: Device) -> bool:
        """Whether *puller* can pull from *holder*."""
        node = holder.member.node
        is_open = node not in self._network.unpullable and (node, puller.member.node) not in self.blocked
        return is_open and self._network.can_meet(holder, puller)

    # --- pulling --------------------------------------------------------------------------------------------

    def fetch(self, device: Device, effect: Fetch) -> None:
        """Bring a blob to *device*, from any reachable device that has it."""
        delay = 0.01 + self._environment.faults.pull * self._environment.random.random()
        self._environment.after(delay, self._fetched, device, device.process, effect)

    def _fetched(self, device: Device, process: int, effect: Fetch) -> None:
        if device.process != process or not device.is_up:
            return
        if device.is_frozen:
            device.enter(lambda: self._fetched(device, process, effect))
            return
        digests = effect.digests
        if not device.driver_rules.pulls_first:
            self._processes.hand(device, process, _ready(digests, durable=effect.durable))
            return
        if not all(self._obtain(device, process, effect, digest) for digest in digests):
            return
        if effect.durable:
            self._flush(device, process, digests, digests)
        self._processes.hand(device, process, _ready(digests, durable=False))

    def _obtain(self, device: Device, process: int, effect: Fetch, digest: str) -> bool:
        """Bring one blob of *effect* to the disk of *device*; return whether it is there now."""
        disk = device.disk
        if digest in self.invalid_updates:
            self._fail(device, effect, "its shape is not the run's", process, invalid=True)
            return False
        if digest in disk.damaged:
            if not device.driver_rules.mends_blobs:
                self._fail(device, effect, "its bytes are wrong", process, invalid=True)
                return False
            disk.drop(digest)
        if not disk.has(digest):
            holders = [one for one in self._linked(device) if one.disk.has(digest)]
            open_ = [one for one in holders if self.passes(one, device)]
            if not any(one.disk.is_whole(digest) for one in open_):
                reason = "whoever has it sends other bytes" if open_ else "nobody reachable has it"
                wait = self.give_up if holders and not open_ else 0.0
                self._environment.after(wait, self._fail, device, effect, reason, process)
                return False
        disk.unflushed.add(digest)
        return True

    def _fail(
        self, device: Device, effect: Fetch, reason: str, process: int, *, invalid: bool = False
    ) -> None:
        digest, *companions = effect.digests
        answer = inputs.BlobFailed(digest, reason, invalid, companions=tuple(companions))
        self._processes.hand(device, process, answer)

    def _flush(self, device: Device, process: int, digests: tuple[str, ...], left: tuple[str, ...]) -> None:
        """Begin to flush the first of *left*, the blobs of *digests* that are not durable yet."""
        seconds = BLOB_FLUSH * self._environment.random.random()
        self._environment.after(seconds, self._flushed, device, process, digests, left)

    def _flushed(self, device: Device, process: int, digests: tuple[str, ...], left: tuple[str, ...]) -> None:
        """Make the first of *left* durable: a pulled blob, which is pinned since. Then flush the others."""
        if device.process != process or not device.is_up:
            return
        device.disk.blobs.add(left[0])
        if left[1:]:
            self._flush(device, process, digests, left[1:])
        else:
            self._processes.hand(device, process, _ready(digests, durable=True))

    def _linked(self, device: Device) -> Iterator[Device]:
        """Yield the devices that *device* may pull from: all linked ones, not only the named sources."""
        ends = (link.end_of(device) for link in device.links.values())
        return (one for one in ends if self._network.can_meet(one, device))


def _ready(digests: tuple[str, ...], *, durable: bool) -> inputs.BlobReady:
    return inputs.BlobReady(digests[0], durable, digests[1:])
