"""Publishes the addresses that a node dials for its operator, with their states, whenever one changes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from p2pfl.events import AddressState, AddressStates
from p2pfl.net.dialling.contacts import Contact
from p2pfl.net.dialling.notices import without_numbers
from p2pfl.net.mesh import Mesh

MAX_ADDRESSES = 256
"""Addresses in one event: the size of the largest roster."""


class AddressReporter:
    """Compares the addresses with those published last."""

    def __init__(
        self, mesh: Mesh, publish: Callable[[AddressStates], None], is_live: Callable[[], bool]
    ) -> None:
        """Publish nothing yet; *is_live* is whether somebody watches, who wants the times of dials too."""
        self._mesh = mesh
        self._publish = publish
        self._is_live = is_live
        self._published: tuple[AddressState, ...] = ()

    def update(self) -> None:
        """Publish the addresses if they have changed; call it about once a second."""
        links = self._mesh.links()
        states = tuple(
            _state(contact, links[contact.node].name if contact.node in links else "")
            for contact in self._mesh.contacts[:MAX_ADDRESSES]
        )
        if states != self._published and (self._is_live() or _lasting(states) != _lasting(self._published)):
            self._published = states
            self._publish(AddressStates(states))


def _state(contact: Contact, linked: str) -> AddressState:
    """Return the state of *contact*, which is *linked* if its name is given."""
    plain = AddressState(contact.address, contact.kind, contact.node, linked, "dialling", "", None)
    if linked:
        return msgspec.structs.replace(plain, state="linked")
    failure = contact.failure
    if failure is None:
        return plain
    state = "refused" if failure.is_refused else "unreached"
    return msgspec.structs.replace(plain, state=state, reason=failure.reason, next_try=contact.next_try)


def _lasting(states: tuple[AddressState, ...]) -> list[tuple[str, str, str]]:
    """Return what of *states* changes seldom."""
    return [(one.address, one.state, without_numbers(one.reason)) for one in states]
