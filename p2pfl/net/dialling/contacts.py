"""What the operator of this node is told of the addresses and nodes that it keeps dialling.

A *contact* is an address that the operator listed, a node known from an earlier time, or a service found in
the local network. Nodes that only peers have named are no contacts: the peers know more about them.

A contact that is not reached is told once with the reason, after a moment of grace, and again when the reason
changes. That it is reached is told if its failure was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from p2pfl.errors import (
    ExcludedNodeError,
    HandshakeRefused,
    KeptOutError,
    LateClaimError,
    NetworkError,
    NotDialledError,
)
from p2pfl.net.dialling.dialler import TargetKey
from p2pfl.net.dialling.notices import without_numbers
from p2pfl.net.transport.addresses import Address

GRACE_SECONDS = 3.0
"""Before the first notice about a contact: devices switched on together are not ready in the same second."""

FAILURE_REPEAT_SECONDS = 10.0
"""At least between two notices about one contact, whose reasons may alternate."""

ContactKind = Literal["listed", "found", "known"]

KINDS: tuple[ContactKind, ...] = ("listed", "found", "known")
"""In the order in which they are shown: what the operator wrote, what is here now, what was here before."""


@dataclass(frozen=True)
class DialFailure:
    """A dial that reached nobody."""

    address: str
    """The contact as the operator knows it: as it was written, or an address with the name of its node."""
    reason: str
    """A sentence, or half of one."""
    is_refused: bool
    """Whether one side refused the other: TLS, another federation, another version."""
    delay: float
    """Seconds until the next dial."""


@dataclass
class Contact:
    """What is known of one contact."""

    kind: ContactKind
    address: str
    """As in `DialFailure`."""
    node: str = ""
    """The node that answered there last, or is known to be there; empty if none is."""
    failure: DialFailure | None = None
    """The last dial, if it failed."""
    next_try: float | None = None
    """Time at which the next dial after a failure begins, or has begun, in seconds since the epoch."""
    failing_since: float = 0.0
    told: str = ""
    """The reason in the last notice; empty before the first, and once it was reached."""
    told_at: float = 0.0


Notify = Callable[[DialFailure | str], None]
"""Takes a failure, or the address of a contact that is reached after one was told."""


class Contacts:
    """The contacts of a node, and the listener of its `Dialler`."""

    def __init__(
        self,
        notify: Notify,
        refused: Callable[[str, NetworkError], None],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """Have no contacts yet.

        *refused* takes the address of a node that is no contact, and why one side refused the other. *clock*
        is monotonic, *wall* counts from the epoch.
        """
        self._notify = notify
        self._refused = refused
        self._clock = clock
        self._wall = wall
        self._contacts: dict[TargetKey, Contact] = {}

    def add(self, key: TargetKey, kind: ContactKind, address: str, node: str = "") -> None:
        """Add a contact, or give it another address."""
        contact = self._contacts.setdefault(key, Contact(kind, address))
        contact.address, contact.node = address, node or contact.node

    def remove(self, key: TargetKey) -> None:
        """Forget a contact."""
        self._contacts.pop(key, None)

    def begins(self, key: TargetKey) -> None:
        """Record that a target is dialled now, perhaps earlier than it was to be."""
        contact = self._contacts.get(key)
        if contact is not None and contact.next_try is not None:
            contact.next_try = min(contact.next_try, self._wall())

    def reached(self, key: TargetKey, node: str) -> None:
        """Record that *node* was reached for a target."""
        contact = self._contacts.get(key)
        if contact is not None:
            contact.node = node
            self._recovered(contact)

    def linked(self, node: str, observed: Address, ports: Collection[int]) -> None:
        """Record that *node*, which listens on *ports*, has dialled this node from *observed*.

        A listed address where it answered earlier, on another port, may be another node's now.
        """
        for key, contact in self._contacts.items():
            if key == observed:
                contact.node = node
            if contact.node == node and not (isinstance(key, Address) and key.port not in ports):
                self._recovered(contact)

    def failed(self, key: TargetKey, address: Address, error: NetworkError, delay: float) -> None:
        """Record that a dial reached nobody; send a notice if one is due."""
        is_refused = isinstance(error, HandshakeRefused)
        contact, now = self._contacts.get(key), self._clock()
        if contact is None:
            if is_refused:
                self._refused(str(address), error)
            return
        if isinstance(error, NotDialledError):  # its exclusion is told by others
            contact.failure, contact.next_try = DialFailure(contact.address, str(error), False, 0.0), None
            return
        if contact.failure is None:
            contact.failing_since = now
        if isinstance(error, ExcludedNodeError):
            contact.node = error.node
        contact.failure = DialFailure(contact.address, str(error), is_refused, delay)
        contact.next_try = self._wall() + delay
        if isinstance(error, KeptOutError):  # this device's own ban is told by others
            return
        kind = without_numbers(str(error))
        is_due = (
            now - contact.told_at >= FAILURE_REPEAT_SECONDS
            if contact.told
            else (is_refused and not isinstance(error, LateClaimError))
            or now - contact.failing_since >= GRACE_SECONDS
        )
        if kind != contact.told and is_due:
            contact.told, contact.told_at = kind, now
            self._notify(contact.failure)

    def nodes_of(self, kind: ContactKind) -> set[TargetKey]:
        """Return the nodes of the contacts of *kind*; the key of the contact where none has answered."""
        return {contact.node or key for key, contact in self._contacts.items() if contact.kind == kind}

    def all(self) -> list[Contact]:
        """Return the contacts, of each node only the first in the order of `KINDS`."""
        ordered = sorted(self._contacts.values(), key=lambda one: KINDS.index(one.kind))
        nodes: set[str] = set()
        contacts = []
        for contact in ordered:
            if contact.node not in nodes:
                contacts.append(contact)
            if contact.node:
                nodes.add(contact.node)
        return contacts

    def _recovered(self, contact: Contact) -> None:
        contact.failure, contact.next_try = None, None
        if contact.told:
            contact.told = ""
            self._notify(contact.address)
