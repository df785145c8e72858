"""Faults that come by themselves: crashes, cuts and losses at random times, as `Faults` rates them.

Faults aimed at a step of the protocol are the world's own (`World.on_effect`, `Faults.aimed`); these know
nothing of the protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pfl.sim.world import World


def schedule_faults(world: World) -> None:
    """Let the faults of *world* begin; they stop by themselves at `Faults.until`."""
    faults = world.faults
    if faults.crash_every:
        _repeat(world, faults.crash_every, lambda: _crash_somebody(world))
    if faults.cut_every:
        _repeat(world, faults.cut_every, lambda: _cut_somewhere(world))
    if faults.deafen_every:
        _repeat(world, faults.deafen_every, lambda: _deafen_somebody(world))
    if faults.lose_disk:
        victim = world.random.choice(list(world.devices.values()))
        world.after(world.random.uniform(0, faults.until), lambda: world.lose_disk(victim))


def _repeat(world: World, mean: float, thunk: Callable[[], None]) -> None:
    def happen() -> None:
        if world.now < world.faults.until:
            thunk()
            world.after(world.random.expovariate(1 / mean), happen)

    world.after(world.random.expovariate(1 / mean), happen)


def _crash_somebody(world: World) -> None:
    world.crash(world.random.choice(list(world.devices.values())))


def _cut_somewhere(world: World) -> None:
    nodes = list(world.devices)
    world.cut(set(world.random.sample(nodes, world.random.randint(1, max(1, len(nodes) // 2)))))
    world.note(None, f"cut off: {', '.join(sorted(world.devices[node].name for node in world.cut_off))}")
    world.after(world.random.expovariate(1 / world.faults.cut), world.heal)


def _deafen_somebody(world: World) -> None:
    sender, receiver = world.random.sample(list(world.devices.values()), 2)
    pair = (sender.member.node, receiver.member.node)
    world.deaf.add(pair)
    world.note(None, f"messages of {sender.name} to {receiver.name} are lost")
    world.after(world.random.expovariate(1 / world.faults.cut), lambda: world.deaf.discard(pair))
