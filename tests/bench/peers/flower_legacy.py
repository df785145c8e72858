"""Bench of Flower's older engine: `start_server` and four `start_client`, over one gRPC stream each.

It is deprecated, but still in flwr 1.42.0, which is measured here. Members verify the server's TLS
certificate. `grpc_max_message_length` is gRPC's maximum on both sides. Members do not evaluate, and the
server's `evaluate_fn` only marks the time. Every round waits for all four members, and all of them train.
Members work on numpy arrays; `run` may have them import torch besides, as members that train with it do.
"""

from __future__ import annotations

from pathlib import Path

from tests.bench.peers.certificates import HOST
from tests.bench.peers.figures import NODES, Outcome
from tests.bench.peers.measuring import Peer, run_peer
from tests.bench.peers.world import World, free_port, is_listening
from tests.bench.synthetic import shapes

PROGRAMS = Path(__file__).with_name("programs")

SAMPLES = 40
"""Number of examples that each member states: the same for all, as in our bench."""

MESSAGE_BYTES = 2**31 - 1
"""gRPC's own limit."""


def run(world: World, model: str, rounds: int, torch: str = "") -> Outcome:
    """Start the server and its members, and wait until it has done *rounds*.

    *torch* is the folder from which the members import torch; empty: they do not.
    """
    port = free_port()
    settings = world.settings_file(
        address=f"{HOST}:{port}",
        shapes=shapes(model),
        rounds=rounds,
        nodes=NODES,
        samples=SAMPLES,
        message_bytes=MESSAGE_BYTES,
        torch=torch,
    )
    world.start("server", [world.python, PROGRAMS / "flower_legacy_server.py", settings])
    world.until(lambda: is_listening(port), "a listening server")
    members = tuple(f"client-{number}" for number in range(NODES))
    for number, member in enumerate(members):
        world.start(member, [world.python, PROGRAMS / "flower_legacy_client.py", settings, str(number)])
    world.until(lambda: world.count("round") > rounds, "the end of a round")
    marks, samples = world.seen()
    return Outcome(
        model=model,
        began=world.began,
        idle_at=next(mark.at for mark in marks if mark.what == "begin"),
        boundaries=tuple(mark.at for mark in marks if mark.what == "round"),
        marks=marks,
        samples=samples,
        members=members,
        aggregators={"server": next(mark.at for mark in marks if mark.what == "base")},
    )


if __name__ == "__main__":
    run_peer(
        Peer(
            "peers.flower_legacy",
            "flower",
            run,
            {"0.4m": 20, "11m": 5, "100m": 2},
            "flwr 1.42.0, start_server and start_client",
        )
    )
