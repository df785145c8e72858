"""Helpers for simulated scenarios: inject one fault at a step of the protocol, and read the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from p2pfl import events
from p2pfl.core.effects import AnyEffect, Send
from p2pfl.core.options import Policy
from p2pfl.events import Event
from p2pfl.messages import Message, Record
from p2pfl.sim.device import Device
from p2pfl.sim.setting import spec_of
from p2pfl.sim.transfers import BlobTransfers
from p2pfl.sim.world import World
from p2pfl.spec import RunSpec, with_options

LIMIT = 600.0
"""Limit in virtual seconds, far above the duration of any scenario."""

AnyNews = TypeVar("AnyNews", bound=Event)


def spec(rounds: int = 3, **changes: object) -> RunSpec:
    """A run's spec; `drop_after` and `round_cap` are the simulator's unless changed."""
    return with_options(spec_of(rounds), **changes)


def once(world: World, matches: Callable[[Device, AnyEffect], bool], act: Callable[[Device], None]) -> None:
    """Call *act(device)* once, right after the first effect for which *matches(device, effect)* holds."""
    before = world.on_effect

    def watch(device: Device, effect: AnyEffect) -> None:
        if before is not None:
            before(device, effect)
        if world.on_effect is watch and matches(device, effect):
            world.on_effect = before
            act(device)

    world.on_effect = watch


def rig(target: Device | BlobTransfers, method: str, function: Callable[..., object]) -> None:
    """Let *function* stand in for a *method* of this one object."""
    setattr(target, method, function)


def asking(world: World) -> World:
    """Let every aggregator ask for votes, even the first in rank; call this before the world begins."""
    for device in world.devices.values():
        device.policy = Policy(lowest=lambda _order, _node: False)
    return world


def sends(kind: type[Message], round_: int) -> Callable[[Device, AnyEffect], bool]:
    """Return a predicate for the sending of a message of *kind* for *round_*."""

    def matches(_device: Device, effect: AnyEffect) -> bool:
        return (
            isinstance(effect, Send)
            and isinstance(effect.message, kind)
            and getattr(effect.message, "round", None) == round_
        )

    return matches


def at_round(world: World, round_: int, *devices: Device) -> Callable[[], bool]:
    """Return a predicate: *devices* (default: all) have committed *round_* on their disks."""

    def reached() -> bool:
        return all(len(chain(device)) >= round_ for device in devices or world.devices.values())

    return reached


def chain(device: Device) -> list[Record]:
    """The committed records on the disk of *device*, of its present run."""
    open_runs = [run for run in device.disk.order if run not in device.disk.closed]
    return [commit.record for commit in device.disk.commits[open_runs[-1]]] if open_runs else []


def number(world: World, index: int) -> Device:
    """The device number *index*, from 1."""
    return list(world.devices.values())[index - 1]


def others(world: World, *without: Device) -> list[Device]:
    return [device for device in world.devices.values() if device not in without]


def news(device: Device, kind: type[AnyNews]) -> list[AnyNews]:
    """The events of *kind* that *device* published, over all its restarts."""
    return [event for event in device.told if isinstance(event, kind)]


def trainings(world: World, round_: int) -> Counter[str]:
    """Number of trainings that each device began for *round_*."""
    return _count(world, events.TrainingStarted, round_)


def trained(world: World, round_: int) -> Counter[str]:
    """Number of trainings that each device completed for *round_*."""
    return _count(world, events.TrainingFinished, round_)


def _count(
    world: World, kind: type[events.TrainingStarted | events.TrainingFinished], round_: int
) -> Counter[str]:
    return Counter(
        device.name
        for device in world.devices.values()
        for event in news(device, kind)
        if event.round == round_
    )


def names(record: Record) -> set[str]:
    """Names of the members after *record*."""
    return {entry.name for entry in record.roster}


def trainers(record: Record) -> set[str]:
    """Node ids of the members whose updates *record* contains."""
    return {entry.node for entry in record.updates}


def runs(world: World) -> set[str]:
    """The present runs of all devices."""
    return {device.disk.order[-1] for device in world.devices.values() if device.disk.order}
