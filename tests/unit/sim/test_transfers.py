from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.core import inputs
from p2pfl.core.effects import Companion, Fetch
from p2pfl.schema import layout_of
from p2pfl.sim.device import SCHEMA
from p2pfl.sim.driver_rules import DriverRules
from p2pfl.sim.transfers import GIVE_UP
from p2pfl.sim.world import World
from tests.support.worlds import number, rig, spec


@pytest.fixture
def world() -> Any:
    made = World(1, nodes=3, spec=spec(30))
    made.begin()
    made.run_for(2.0)
    return made


def pair(world: World, one: int, other: int) -> Any:
    return (number(world, one).member.node, number(world, other).member.node)


def fetched(world: Any, index: int, seconds: Any = 0.2, **fields: Any) -> Any:
    """What device *index* is told of a blob it fetches."""
    device, seen, feed = number(world, index), [], world.feed

    def watch(one: Any, event: Any) -> None:
        is_answer = isinstance(event, inputs.BlobReady | inputs.BlobFailed) and event.digest == "blob"
        if one is device and is_answer:
            seen.append(event)
        feed(one, event)

    world.feed = watch
    world.transfers.fetch(device, Fetch("blob", layout_of(SCHEMA), (), **fields))
    world.run_for(seconds)
    world.feed = feed
    return seen


READY = [inputs.BlobReady("blob", durable=False), inputs.BlobReady("blob", durable=True)]


def failed(reason: str, *, invalid: bool = False) -> Any:
    return [inputs.BlobFailed("blob", reason, invalid)]


def test_a_blob_comes_from_whoever_is_linked_and_has_it(world: World) -> None:
    number(world, 3).disk.unflushed.add("blob")
    assert fetched(world, 1) == READY
    assert number(world, 1).disk.blobs >= {"blob"}
    assert fetched(world, 2, durable=False) == READY[:1]
    assert "blob" in number(world, 2).disk.unflushed


def test_a_blob_nobody_reachable_has_cannot_be_had(world: Any) -> None:
    number(world, 3).disk.blobs.add("blob")
    world.network.lose_messages({pair(world, 3, 1)})
    assert fetched(world, 1) == failed("nobody reachable has it")


def test_no_bytes_come_where_bulk_is_blocked_although_the_link_is_up(world: Any) -> None:
    number(world, 3).disk.blobs.add("blob")
    world.transfers.block({pair(world, 3, 1)})
    assert fetched(world, 1, GIVE_UP + 0.2) == failed("nobody reachable has it")
    assert world.is_connected(*pair(world, 3, 1))
    number(world, 3).disk.blobs.add("blob")  # the run has let go of it
    assert fetched(world, 2) == READY
    assert fetched(world, 1) == READY, "another one has it now"
    world.transfers.unblock({pair(world, 3, 1)})
    assert world.transfers.passes(number(world, 3), number(world, 1))


def test_wrong_bytes_are_not_taken_from_their_holder(world: World) -> None:
    number(world, 3).disk.blobs.add("blob")
    world.transfers.damage(number(world, 3), "blob")
    assert fetched(world, 1) == failed("whoever has it sends other bytes")


def test_wrong_bytes_here_are_deleted_and_pulled_again(world: World) -> None:
    for index in (1, 3):
        number(world, index).disk.blobs.add("blob")
    world.transfers.damage(number(world, 1), "blob")
    assert not number(world, 1).disk.is_whole("blob")
    assert fetched(world, 1) == READY
    assert number(world, 1).disk.is_whole("blob")


def test_without_the_habit_of_deleting_them_wrong_bytes_stay(world: World) -> None:
    for index in (1, 3):
        number(world, index).disk.blobs.add("blob")
    world.transfers.damage(number(world, 1), "blob")
    number(world, 1).driver_rules = DriverRules(mends_blobs=False)
    assert fetched(world, 1) == failed("its bytes are wrong", invalid=True)


def test_an_update_that_never_fits_is_refused_wherever_it_is(world: World) -> None:
    number(world, 1).disk.blobs.add("blob")
    world.transfers.invalid_updates.add("blob")
    for index in (1, 2):
        assert fetched(world, index) == failed("its shape is not the run's", invalid=True)


def test_a_suspended_process_gets_its_blob_when_it_goes_on(world: World) -> None:
    number(world, 3).disk.blobs.add("blob")
    world.freeze(number(world, 1), 1.0)
    assert fetched(world, 1, 0.5) == []
    assert not number(world, 1).disk.has("blob")
    world.run_for(1.0)
    assert number(world, 1).disk.has("blob")


COMPANION = Companion("state", "state", spec())
BOTH = {"companions": (COMPANION,)}


def test_a_blob_is_ready_when_its_companion_is_here_too(world: World) -> None:
    holder, device = number(world, 3), number(world, 1)
    holder.disk.blobs.add("blob")
    assert fetched(world, 1, **BOTH) == [
        inputs.BlobFailed("blob", "nobody reachable has it", invalid=False, companions=("state",))
    ]
    assert device.disk.has("blob")
    holder.disk.blobs.add("state")
    ready = inputs.BlobReady("blob", durable=False, companions=("state",))
    assert fetched(world, 1, **BOTH) == [ready, msgspec.structs.replace(ready, durable=True)]
    assert device.disk.blobs >= {"blob", "state"}


def test_a_process_that_dies_between_two_flushes_is_told_nothing(world: World) -> None:
    for name in ("blob", "state"):
        number(world, 3).disk.blobs.add(name)
    device, flush = number(world, 1), world.transfers._flush

    def flush_and_die(one: Any, process: int, digests: Any, left: Any) -> None:
        flush(one, process, digests, left)
        if left == ("state",):
            world.crash(device, 100.0)

    rig(world.transfers, "_flush", flush_and_die)
    assert fetched(world, 1, **BOTH) == [inputs.BlobReady("blob", durable=False, companions=("state",))]
    assert "blob" in device.disk.blobs
    assert "state" not in device.disk.blobs
