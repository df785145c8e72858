from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from p2pfl.events import AddressState, AddressStates
from p2pfl.net.dialling.contacts import Contact, DialFailure
from p2pfl.net.mesh import Mesh
from p2pfl.runtime.observing.addresses import AddressReporter

PI = Contact("listed", "pi:9000")


class World:
    def __init__(self) -> None:
        self.mesh = SimpleNamespace(contacts=[PI], links=dict)
        self.published: list[AddressStates] = []
        self.is_live = False
        self.reporter = AddressReporter(cast(Mesh, self.mesh), self.published.append, lambda: self.is_live)

    def after(self, contact: Contact, links: dict[str, Any] | None = None) -> int:
        """Return the number of events after *contact* is as given."""
        self.mesh.contacts, self.mesh.links = [contact], lambda: links or {}
        self.reporter.update()
        return len(self.published)


def failed(reason: str, next_try: float, *, is_refused: bool = False) -> Contact:
    failure = DialFailure("pi:9000", reason, is_refused, 5.0)
    return Contact("listed", "pi:9000", failure=failure, next_try=next_try)


@pytest.fixture
def world() -> World:
    return World()


def test_addresses_are_published_when_a_state_changes(world: World) -> None:
    assert world.after(PI) == 1
    assert world.after(PI) == 1
    assert world.after(failed("nothing listens there", 7.0)) == 2
    assert world.after(failed("another CA", 7.0, is_refused=True)) == 3
    linked = {"id": SimpleNamespace(name="pi")}
    assert world.after(Contact("listed", "pi:9000", "id"), linked) == 4
    states = [one.addresses[0] for one in world.published]
    assert states == [
        AddressState("pi:9000", "listed", "", "", "dialling", "", None),
        AddressState("pi:9000", "listed", "", "", "unreached", "nothing listens there", 7.0),
        AddressState("pi:9000", "listed", "", "", "refused", "another CA", 7.0),
        AddressState("pi:9000", "listed", "id", "pi", "linked", "", None),
    ]


def test_the_next_dial_alone_is_published_only_while_somebody_watches(world: World) -> None:
    assert world.after(failed("nothing listens there", 7.0)) == 1
    assert world.after(failed("nothing listens there", 12.0)) == 1
    world.is_live = True
    assert world.after(failed("nothing listens there", 17.0)) == 2


def test_the_event_is_bounded(world: World) -> None:
    world.mesh.contacts = [PI] * 1000
    world.reporter.update()
    assert len(world.published[0].addresses) == 256
