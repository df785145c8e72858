"""The simulated network: links between devices, and delay, loss, duplication and cuts of messages.

The product's own `Admission` judges every HELLO: a journal restored from a backup is refused here as a real
node refuses it. A link over which nothing arrives is dropped after `SILENCE`, as a real node's pings do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from p2pfl.config import NetSettings
from p2pfl.core import inputs
from p2pfl.core.effects import Exit, SaveRefused
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import Message, Status
from p2pfl.sim.device import Device, SimulatedLink
from p2pfl.sim.environment import Environment, Processes
from p2pfl.sim.setting import through_codec

SILENCE = NetSettings().silence_seconds
"""Seconds without a message after which a side drops the link."""

SLOWER = 100.0
"""Factor by which a slow message is slower."""

LAST_WORDS = 0.1
"""Seconds after the end of a process until the others notice. Messages it had sent arrive before: a kernel
still delivers what was written to a socket."""


class Network:
    """All links of one simulation."""

    def __init__(self, environment: Environment, processes: Processes, *, codec: bool) -> None:
        self._environment = environment
        self._processes = processes
        self._codec = codec
        """Whether messages pass through the real codec, which checks every bound and makes a run a third
        slower."""
        self.cut_off: set[str] = set()
        """Nodes on one side of a cut."""
        self.lossy_pairs: set[tuple[str, str]] = set()
        """Pairs of (sender, receiver) between which messages are lost although the link is up."""
        self.on_linked: Callable[[Device, Device], None] = lambda _one, _other: None
        """Called with both ends of each new link."""
        self.on_excluded: Callable[[Device, Device], None] = lambda _judge, _refused: None
        """Called when the first device refuses the second one because that is banned."""
        self.unpullable: set[str] = set()
        """Nodes from which no device can pull a blob, although their links are up."""

    # --- links ----------------------------------------------------------------------------------------------

    def is_connected(self, one: str, other: str) -> bool:
        """Whether a link between two nodes is up."""
        link = self._environment.devices[one].links.get(other)
        return link is not None and link.is_current

    def can_meet(self, one: Device, other: Device) -> bool:
        """Whether two running devices can exchange bytes both ways."""
        a, b = one.member.node, other.member.node
        return (
            a != b
            and one.is_up
            and other.is_up
            and not (one.is_frozen or other.is_frozen)
            and (a in self.cut_off) == (b in self.cut_off)
            and (a, b) not in self.lossy_pairs
            and (b, a) not in self.lossy_pairs
        )

    def dial(self, device: Device) -> None:
        """Link *device*, a little later, with every device it can reach."""
        for other in self._environment.everybody():
            if other is not device:
                self.link_later(device, other)

    def link_later(self, one: Device, other: Device) -> None:
        """Link two devices a little later, if both are up then and can reach each other."""
        delay = 0.05 + 0.3 * self._environment.random.random()
        self._environment.after(delay, self._link, one, other, (one.process, other.process))

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
        order = judge.admission.accept(judged.member.node, judged.hello)
        judged.admission.accept_numbered(judge.member.node, judge.hello, order)
        one.links[b] = other.links[a] = SimulatedLink(one, other, order)
        self._processes.feed(one, inputs.Linked(other.member, other.name))
        if other.is_up:
            self._processes.feed(other, inputs.Linked(one.member, one.name))
        self.on_linked(one, other)

    def _admits(self, judge: Device, other: Device) -> bool:
        """Whether *judge* admits *other*; a device that gets proof that it is a copy stops."""
        refusal = judge.admission.refuse(other.identity, other.hello)
        if refusal is None or (refusal.kind == "cloned" and not judge.driver_rules.judges_incarnations):
            return True
        self._environment.note(judge, f"refuses {other.name}: {refusal.reason}")
        if refusal.kind == "excluded":
            self.on_excluded(judge, other)
        if refusal.kind == "cloned" and other.admission.proves_clone(refusal):
            other.disk.save(SaveRefused(refusal.reason))
            self._processes.end(other, Exit(ExitCode.CLONED, refusal.reason))
        else:
            self._environment.after(1.0, self._link, judge, other, (judge.process, other.process))
        return False

    def sever(self, device: Device, node: str) -> None:
        """End the link of *device* to *node*; the two are linked again a little later."""
        link = device.links.get(node)
        if link is not None:
            self.unlink(link)
            self.link_later(link.one, link.other)

    def dismiss(self, device: Device, node: str) -> None:
        """End the link of *device* to *node*, which is kept out, behind the messages that are under way."""
        link = device.links.get(node)
        if link is not None:
            self._environment.after(LAST_WORDS, self.unlink, link)

    def drop_links(self, device: Device) -> None:
        """End every link of *device*."""
        for link in list(device.links.values()):
            self.unlink(link)

    def fall_silent(self, device: Device) -> None:
        """Drop the links of a process that has ended, a little later."""
        for link in device.links.values():
            self._environment.after(LAST_WORDS, self.unlink, link)

    def unlink(self, link: SimulatedLink) -> None:
        """End a link, and tell each side that runs."""
        for device in (link.one, link.other):
            node = link.end_of(device).member.node
            if device.links.get(node) is link:
                del device.links[node]
                device.admission.release(node, link.order)
                if device.is_up:
                    self._environment.after(0.0, self._lost, device, node, device.process)

    def _lost(self, device: Device, node: str, process: int) -> None:
        if node not in device.links:
            self._processes.hand(device, process, inputs.Unlinked(node))

    # --- cuts -----------------------------------------------------------------------------------------------

    def cut(self, side: set[str]) -> None:
        """Cut the nodes of *side* off from the others; all notice at once."""
        self.cut_off = side
        for device in self._environment.everybody():
            for node, link in list(device.links.items()):
                if (device.member.node in side) != (node in side):
                    self.unlink(link)

    def lose_messages(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Lose the messages from the first node of each pair to the second, until `stop_losing_messages`.

        Such a pair drops its link when the silence lasts.
        """
        added = set(pairs) - self.lossy_pairs
        self.lossy_pairs |= added
        self._environment.after(SILENCE, self._notice, added)

    def _notice(self, pairs: set[tuple[str, str]]) -> None:
        for one, other in sorted(pairs & self.lossy_pairs):
            link = self._environment.devices[one].links.get(other)
            if link is not None:
                self.unlink(link)

    def stop_losing_messages(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Deliver the messages between *pairs* again."""
        for one, other in sorted(set(pairs) & self.lossy_pairs):
            self.lossy_pairs.discard((one, other))
            self.link_later(self._environment.devices[one], self._environment.devices[other])

    def notice_frozen(self, device: Device, process: int) -> None:
        """Drop the links to a process that is still suspended."""
        if device.process == process and device.is_frozen:
            self.drop_links(device)

    def rejoin(self) -> None:
        """End the cut, and link all devices again."""
        self.cut_off = set()
        devices = list(self._environment.everybody())
        for index, one in enumerate(devices):
            for other in devices[index + 1 :]:
                if one.is_up and other.is_up:
                    self.link_later(one, other)

    def heal(self) -> None:
        """End the cut and all losses of messages."""
        self.lossy_pairs = set()
        self.rejoin()

    # --- messages -------------------------------------------------------------------------------------------

    def send(self, device: Device, to: str, message: Message) -> None:
        """Send *message*; it may be lost, late, or arrive twice."""
        link = device.links.get(to)
        if link is None or (self.lossy_pairs and (device.member.node, to) in self.lossy_pairs):
            return
        if self._codec:
            message = through_codec(message)
        environment, faults = self._environment, self._environment.faults
        chance = environment.random.random
        received = inputs.Received(device.member, message)
        if not environment.is_faulty:
            environment.after(
                environment.random.expovariate(1 / faults.delay), self._deliver, link, device, received
            )
            return
        copies = 1
        if faults.drop and chance() < faults.drop:
            copies = 0
        elif faults.duplicate and chance() < faults.duplicate:
            copies = 2
        for _ in range(copies):
            delay = environment.random.expovariate(1 / faults.delay)
            if faults.slow and chance() < faults.slow:
                delay *= SLOWER
            environment.after(delay, self._deliver, link, device, received)

    def _deliver(self, link: SimulatedLink, sender: Device, received: inputs.Received) -> None:
        """Deliver a message, also a late one of an earlier link; a `Status` only on its own link."""
        receiver = link.end_of(sender)
        current = receiver.links.get(received.member.node)
        if current is link or (current is not None and not isinstance(received.message, Status)):
            self._processes.hand(receiver, receiver.process, received)
