"""Looks into simulated federations: what devices told, and faults aimed at a step of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from p2pfl.core.effects import AnyEffect, Send
from p2pfl.messages import Message
from p2pfl.sim.device import Device
from p2pfl.sim.world import World

EventT = TypeVar("EventT")


def told(device: Device, kind: type[EventT]) -> list[EventT]:
    """Return the events of *kind* a device has published, over all its starts."""
    return [event for event in device.told if isinstance(event, kind)]


def last_records(world: World) -> set[str]:
    """Return the digests of the last committed records over all disks: one where all agree."""
    return {world.checker.digest(commits[-1].record) for commits in all_commits(world)}


def all_commits(world: World) -> list[list]:
    """Return every disk's commits of its run."""
    return [device.disk.commits[run] for device in world.devices.values() for run in device.disk.order[-1:]]


def crash_after(
    world: World, kind: type[Message], round_: int, *, nth: int = 1, down: float = 5.0
) -> list[Device]:
    """Crash whoever sends the *nth* message of *kind* in *round_*, right after it; return who it was, later."""
    seen, victims = 0, []

    def look(device: Device, effect: AnyEffect) -> None:
        nonlocal seen
        if isinstance(effect, Send) and isinstance(effect.message, kind) and effect.message.round == round_:
            seen += 1
            if seen == nth:
                victims.append(device)
                world.crash(device, down)

    world.on_effect = look
    return victims


def reached(world: World, round_: int, devices: list[Device] | None = None) -> Callable[[], bool]:
    """Return a condition: the devices have committed *round_*."""

    def done() -> bool:
        ledgers = [device.node.ledger for device in devices or world.devices.values() if device.node]
        return bool(ledgers) and all(ledger is not None and ledger.round >= round_ for ledger in ledgers)

    return done
