"""The simulated network: links between devices, what becomes of messages on them, cuts.

HELLO is judged by the product's own `Admission`: a journal that comes back from the past is refused here as a
real node refuses it. A link that carries nothing is noticed when it has been silent for `SILENCE`, as the
real one's pings do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from p2pfl.config import NetSettings
from p2pfl.core import inputs
from p2pfl.core.effects import Exit, Fetch, SaveRefused
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import Message, Status
from p2pfl.sim.device import Device
from p2pfl.sim.setting import through_codec

if TYPE_CHECKING:
    from p2pfl.sim.world import World

SILENCE = NetSettings().silence_seconds
"""Seconds after which a link on which one side hears nothing is dropped by that side."""

SLOWER = 100.0
"""How many times longer a slow message takes."""

LAST_WORDS = 0.1
"""Seconds after the end of a process at which the others notice: what it had sent arrives before, as a kernel
still delivers what was written to a socket."""


class SimulatedLink:
    """A control link between two processes, as both see it."""

    __slots__ = ("one", "order", "other", "processes")

    def __init__(self, one: Device, other: Device, order: int) -> None:
        self.one, self.other = one, other
        self.processes = (one.process, other.process)
        self.order = order
        """The number the pair's judge gave it."""

    @property
    def is_current(self) -> bool:
        """Whether both processes it was made between still run."""
        one, other = self.one, self.other
        return one.is_up and other.is_up and self.processes == (one.process, other.process)

    def end_of(self, device: Device) -> Device:
        """Return the device at the other end from *device*."""
        return self.other if device is self.one else self.one


class Network:
    """All links of one world."""

    def __init__(self, world: World, *, codec: bool) -> None:
        self._world = world
        self._codec = codec
        """Whether messages pass through the real codec, which checks every bound; a third slower."""
        self.cut_off: set[str] = set()
        """Nodes on the other side of a cut."""
        self.deaf: set[tuple[str, str]] = set()
        """Pairs of (from, to) between which messages are lost although the link is up."""
        self.walled: set[str] = set()
        """Nodes that nobody can pull a blob from, although their links are up."""

    # --- links ----------------------------------------------------------------------------------------------

    def is_connected(self, one: str, other: str) -> bool:
        """Whether a link between two nodes is up."""
        link = self._world.devices[one].links.get(other)
        return link is not None and link.is_current

    def can_meet(self, one: Device, other: Device) -> bool:
        """Whether bytes pass between two running devices both ways."""
        a, b = one.member.node, other.member.node
        return (
            a != b
            and one.is_up
            and other.is_up
            and not (one.is_frozen or other.is_frozen)
            and (a in self.cut_off) == (b in self.cut_off)
            and (a, b) not in self.deaf
            and (b, a) not in self.deaf
        )

    def dial(self, device: Device) -> None:
        """Let *device* be linked, a little later, with everybody it can reach."""
        for other in self._world.everybody():
            if other is not device:
                self.link_later(device, other)

    def link_later(self, one: Device, other: Device) -> None:
        """Let a pair be linked a little later, if both are up and can meet then."""
        delay = 0.05 + 0.3 * self._world.random.random()
        self._world.after(delay, self._link, one, other, (one.process, other.process))

    def _link(self, one: Device, other: Device, processes: tuple[int, int]) -> None:
        if processes != (one.process, other.process) or not self.can_meet(one, other):
            return
        known = one.links.get(other.member.node)
        if known is not None and known.end_of(one) is other and known.is_current:
            return
        if not (self._admits(one, other) and self._admits(other, one)):
            return
        a, b = one.member.node, other.member.node
        judge, judged = (one, other) if a < b else (other, one)
        for stale in (one.links.get(b), other.links.get(a)):
            if stale is not None:
                self.unlink(stale)
                if stale.is_current:  # with another device of the same certificate: it will dial again
                    self.link_later(stale.one, stale.other)
        order = judge.admission.take(judged.member.node, judged.hello)
        judged.admission.take_judged(judge.member.node, judge.hello, order)
        one.links[b] = other.links[a] = SimulatedLink(one, other, order)
        self._world.feed(one, inputs.Linked(other.member, other.name))
        if other.is_up:
            self._world.feed(other, inputs.Linked(one.member, one.name))

    def _admits(self, judge: Device, other: Device) -> bool:
        """Whether *judge* lets *other* in; to whom it is proved that it is a copy stops."""
        refusal = judge.admission.refuse(other.identity, other.hello)
        if refusal is None or (refusal.kind == "cloned" and not judge.habits.judges_incarnations):
            return True
        self._world.note(judge, f"refuses {other.name}: {refusal.reason}")
        if refusal.kind == "cloned" and other.admission.is_disowned_by(refusal):
            other.disk.save(SaveRefused(refusal.reason))
            self._world.end(other, Exit(ExitCode.CLONED, refusal.reason))
        else:
            self._world.after(1.0, self._link, judge, other, (judge.process, other.process))
        return False

    def sever(self, device: Device, node: str) -> None:
        """End the link of *device* to *node*, as it wants; the two meet again a little later."""
        link = device.links.get(node)
        if link is not None:
            self.unlink(link)
            self.link_later(link.one, link.other)

    def drop_links(self, device: Device) -> None:
        """End every link of *device*."""
        for link in list(device.links.values()):
            self.unlink(link)

    def fall_silent(self, device: Device) -> None:
        """Let the others notice, a little later, that the process of *device* has ended."""
        for link in device.links.values():
            self._world.after(LAST_WORDS, self.unlink, link)

    def unlink(self, link: SimulatedLink) -> None:
        """End a link: each side that runs is told."""
        for device in (link.one, link.other):
            node = link.end_of(device).member.node
            if device.links.get(node) is link:
                del device.links[node]
                device.admission.release(node, link.order)
                if device.is_up:
                    self._world.after(0.0, self._lost, device, node, device.process)

    def _lost(self, device: Device, node: str, process: int) -> None:
        if node not in device.links:
            self._world.hand(device, process, inputs.Unlinked(node))

    # --- cuts -----------------------------------------------------------------------------------------------

    def cut(self, side: set[str]) -> None:
        """Cut the nodes of *side* off from the others; everybody notices at once."""
        self.cut_off = side
        for device in self._world.everybody():
            for node, link in list(device.links.items()):
                if (device.member.node in side) != (node in side):
                    self.unlink(link)

    def deafen(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Lose what the first of each pair sends to the second; noticed by the silence, if it lasts."""
        added = set(pairs) - self.deaf
        self.deaf |= added
        self._world.after(SILENCE, self._notice, added)

    def _notice(self, pairs: set[tuple[str, str]]) -> None:
        for one, other in sorted(pairs & self.deaf):
            link = self._world.devices[one].links.get(other)
            if link is not None:
                self.unlink(link)

    def hear_again(self, pairs: Iterable[tuple[str, str]]) -> None:
        """End what `deafen` began."""
        for one, other in sorted(set(pairs) & self.deaf):
            self.deaf.discard((one, other))
            self.link_later(self._world.devices[one], self._world.devices[other])

    def notice_frozen(self, device: Device, process: int) -> None:
        """Let the others drop their links to a suspended process."""
        if device.process == process and device.is_frozen:
            self.drop_links(device)

    def rejoin(self) -> None:
        """End what `cut` began."""
        self.cut_off = set()
        devices = list(self._world.everybody())
        for index, one in enumerate(devices):
            for other in devices[index + 1 :]:
                if one.is_up and other.is_up:
                    self.link_later(one, other)

    def heal(self) -> None:
        """Let everybody reach everybody again."""
        self.deaf = set()
        self.rejoin()

    # --- messages -------------------------------------------------------------------------------------------

    def send(self, device: Device, to: str, message: Message) -> None:
        """Put *message* on its way; it may be lost, late, or arrive twice."""
        link = device.links.get(to)
        if link is None or (self.deaf and (device.member.node, to) in self.deaf):
            return
        if self._codec:
            message = through_codec(message)
        world, faults = self._world, self._world.faults
        chance = world.random.random
        received = inputs.Received(device.member, message)
        if not world.is_faulty:
            world.after(world.random.expovariate(1 / faults.delay), self._deliver, link, device, received)
            return
        copies = 1
        if faults.drop and chance() < faults.drop:
            copies = 0
        elif faults.duplicate and chance() < faults.duplicate:
            copies = 2
        for _ in range(copies):
            delay = world.random.expovariate(1 / faults.delay)
            if faults.slow and chance() < faults.slow:
                delay *= SLOWER
            world.after(delay, self._deliver, link, device, received)

    def _deliver(self, link: SimulatedLink, sender: Device, received: inputs.Received) -> None:
        """Deliver a message, also a late one of an earlier link; a Status only on its own link."""
        receiver = link.end_of(sender)
        current = receiver.links.get(received.member.node)
        if current is link or (current is not None and not isinstance(received.message, Status)):
            self._world.hand(receiver, receiver.process, received)

    def fetch(self, device: Device, effect: Fetch) -> None:
        """Bring a blob to *device*, over connections of their own."""
        self._world.bulk.fetch(device, effect)
