"""Bench of the p2pfl on PyPI, another project of the same name: four nodes that gossip over gRPC.

It uses mutual TLS, a full mesh, and all four nodes train in every round. Every node averages, so each one is
an aggregator. Learner and model are subclasses of its interfaces on numpy arrays, without the copy of the
model that its base class makes. Ray, which is for simulations in one process, is off. The settings are those
of its own examples (`set_standalone_settings`), but:

- timeouts are raised, so that a large model gets through and no busy node counts as dead;
- the gossip of messages pauses for 50 ms instead of not at all, which takes a core of each node;
- the gossip of models pauses for the fastest of 0.1, 1 (its default) and 2 (its examples') seconds at each
  size: short pauses help a small model much, but encode a large one repeatedly for nothing.

A node draws its receivers at random, so its rounds differ much in time and in bytes.
"""

from __future__ import annotations

from pathlib import Path

from tests.bench.peers.certificates import HOST
from tests.bench.peers.figures import NODES, Outcome
from tests.bench.peers.measuring import Peer, run_peer
from tests.bench.peers.world import World, free_port
from tests.bench.synthetic import shapes

PROGRAMS = Path(__file__).with_name("programs")

SAMPLES = 40
"""Number of examples that each member states: the same for all, as in our bench."""

START_SECONDS = 60.0

SETTINGS: dict[str, dict[str, object]] = {
    "general": {"GRPC_TIMEOUT": 120.0, "DISABLE_RAY": True},
    "heartbeat": {"PERIOD": 1, "TIMEOUT": 60, "WAIT_CONVERGENCE": 2},
    "gossip": {
        "PERIOD": 0.05,
        "TTL": 10,
        "MESSAGES_PER_PERIOD": 9999999999,
        "AMOUNT_LAST_MESSAGES_SAVED": 10000,
        "MODELS_PER_ROUND": 4,
        "EXIT_ON_X_EQUAL_ROUNDS": 10,
    },
    "training": {"VOTE_TIMEOUT": 60, "AGGREGATION_TIMEOUT": 300},
}
"""Explained in the docstring of this module."""

MODELS_PERIOD_SECONDS = {"0.4m": 0.1, "11m": 1.0, "100m": 1.0}
"""The setting `MODELS_PERIOD`, by model."""


def run(world: World, model: str, rounds: int) -> Outcome:
    """Start the nodes, let them find each other, begin, and wait until *rounds* more than one have begun."""
    tls = {
        "CA_CRT": str(world.certificates.ca),
        **dict.fromkeys(("SERVER_CRT", "CLIENT_CRT"), str(world.certificates.certificate)),
        **dict.fromkeys(("SERVER_KEY", "CLIENT_KEY"), str(world.certificates.key)),
    }
    gossip = SETTINGS["gossip"] | {"MODELS_PERIOD": MODELS_PERIOD_SECONDS[model]}
    settings = world.settings_file(
        addresses=[f"{HOST}:{free_port()}" for _ in range(NODES)],
        shapes=shapes(model),
        rounds=rounds + 1,
        samples=SAMPLES,
        settings=SETTINGS | {"gossip": gossip, "ssl": tls},
    )
    (world.folder / "logs").mkdir()  # before the nodes, which would create it concurrently and fail
    members = tuple(f"node-{number}" for number in range(NODES))
    processes = [
        world.start(member, [world.python, PROGRAMS / "p2pfl_pypi_node.py", settings, str(number)])
        for number, member in enumerate(members)
    ]
    world.until(
        lambda: all("connected" in world.printed(member) for member in members),
        "a link between all nodes",
        START_SECONDS,
    )
    idle_at = world.sampler.samples()[-1].at
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("begin\n")
        process.stdin.flush()
    world.until(lambda: world.count("begin") > rounds * NODES, "the begin of a round")
    marks, samples = world.seen()
    return Outcome(
        model=model,
        began=world.began,
        idle_at=idle_at,
        # every member begins once a round; the first to do so begins the round
        boundaries=tuple(mark.at for mark in marks if mark.what == "begin")[::NODES],
        marks=marks,
        samples=samples,
        members=members,
        aggregators={
            member: next(mark.at for mark in marks if mark.pid == process.pid and mark.what == "base")
            for member, process in zip(members, processes, strict=True)
        },
    )


if __name__ == "__main__":
    run_peer(Peer("peers.p2pfl_pypi", "p2pfl_pypi", run, {"0.4m": 10, "11m": 2, "100m": 3}, "p2pfl 0.4.4"))
