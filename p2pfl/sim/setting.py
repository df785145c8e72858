"""What every simulated federation shares: its timings, the run's spec, node ids, the codec on the way."""

from __future__ import annotations

from typing import cast

from blake3 import blake3

from p2pfl.config import ProtocolSettings
from p2pfl.messages import Message, RunSpec
from p2pfl.wire import codec

SETTINGS = ProtocolSettings(linger=20.0)
"""The product's own, but for the time finished nodes serve: runs end sooner."""


WORKER_LIMIT = 10.0
"""Seconds after which a worker that does nothing is killed, and its job has failed."""


PUT_OFF = 0.25
"""Seconds a save that nobody waits for is put off, as `p2pfl.runtime.driver` does it."""


def digest_of(*parts: object) -> str:
    """Return the digest standing for a simulated model made of *parts*."""
    return blake3("/".join(map(str, parts)).encode()).hexdigest()


def spec_of(rounds: int, seed: int = 1) -> RunSpec:
    """Return a run's spec for the simulator; only its rounds and its timings matter there."""
    return RunSpec(
        task="simulated",
        model="two",
        partition="iid",
        partitions=1,
        rounds=rounds,
        epochs=1,
        batch_size=1,
        learning_rate=0.1,
        momentum=0.0,
        weight_decay=0.0,
        strategy="fedavg",
        seed=seed,
        sample=0,
        min_updates=1,
        round_cap=60.0,
        drop_after=30.0,
    )


def node_id(index: int) -> str:
    """Return the id of the simulated node number *index*: well-formed, and in no order of its own."""
    text = digest_of("node", index)
    return "".join("abcdefghijklmnopqrstuvwxyz234567"[int(text[i], 16)] for i in range(52))


def through_codec(message: Message) -> Message:
    """Encode *message* and decode it, as two real nodes would."""
    return cast(Message, codec.decode(codec.encode(message)))
