"""What all simulations share: timings, the run's spec, node ids, signatures, and the codec of messages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import msgspec
from blake3 import blake3

from p2pfl.config import ProtocolSettings
from p2pfl.messages import Message, quorum
from p2pfl.proofs import Signer
from p2pfl.spec import MetricTarget, RunSpec, Stopping, from_options
from p2pfl.strategy_specs import FedAvgSpec, OwnStrategySpec, ScaffoldSpec, StrategySpec
from p2pfl.wire import codec

SETTINGS = ProtocolSettings(linger=20.0)
"""The real timings, except that finished nodes serve for a shorter time, so that runs end sooner."""

WORKER_LIMIT = 10.0
"""Seconds after which a hanging worker is killed, and its job fails."""

DEFER_SECONDS = 0.25
"""Seconds for which a save is deferred that no effect depends on, as in `p2pfl.runtime.driver`."""


NEVER = Stopping()
"""No rule for stopping early: the run trains all its rounds."""

ALL: Mapping[str, Any] = {}
"""No options that select who trains: all members do."""


def digest_of(*parts: object) -> str:
    """Return the digest standing for a simulated model made of *parts*."""
    return blake3("/".join(map(str, parts)).encode()).hexdigest()


def stopping_of(seed: int) -> Stopping:
    """Return when the run of world *seed* ends early: half of the worlds have a rule for that.

    The accuracy of a simulated model is drawn anew for each one and is about one half, so a target above that
    or a small patience is met after a few rounds.
    """
    target, patience = (0.0, 0.55, 0.0, 0.65)[seed % 4], (0, 0, 0, 3, 0, 2)[seed % 6]
    return Stopping(MetricTarget("accuracy", target) if target else None, patience)


def strategy_of(seed: int, nodes: int) -> StrategySpec:
    """Return the strategy of world *seed* with *nodes* nodes.

    Two in seven have a state and controls. Another one has a state and needs the updates of a majority.
    """
    match seed % 7:
        case 2 | 4:
            return ScaffoldSpec()
        case 6:
            return OwnStrategySpec("simulated", least=quorum(nodes), slots=("momentum",))
        case _:
            return FedAvgSpec()


def sampling_of(seed: int) -> Mapping[str, Any]:
    """Return the options of world *seed* that select who trains: in two of five worlds not all do."""
    options: tuple[Mapping[str, Any], ...] = (
        {},
        {},
        {"fraction": 0.5},
        {},
        {"sample": 2, "sample_by": "examples"},
    )
    return options[seed % 5]


def spec_of(
    rounds: int,
    seed: int = 1,
    stopping: Stopping = NEVER,
    sampling: Mapping[str, Any] = ALL,
    strategy: StrategySpec | None = None,
) -> RunSpec:
    """Return a run's spec; the simulator uses its rounds, timings, *sampling*, strategy and stopping rule."""
    spec = from_options(
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
        seed=seed,
        min_updates=1,
        round_cap=60.0,
        drop_after=30.0,
        until=stopping.until,
        patience=stopping.patience,
        **{"sample": 0, **sampling},
    )
    return msgspec.structs.replace(spec, strategy=strategy or spec.strategy)


def node_id(index: int) -> str:
    """Return a well-formed node id for node number *index*; the ids are not in the order of the numbers."""
    text = digest_of("node", index)
    return "".join("abcdefghijklmnopqrstuvwxyz234567"[int(text[i], 16)] for i in range(52))


def through_codec(message: Message) -> Message:
    """Encode *message* and decode it, as two real nodes would."""
    return cast(Message, codec.decode(codec.encode(message)))


# --- signatures ---------------------------------------------------------------------------------------------
# Within a simulation they are as unforgeable as real ones, and far faster. A node's secret is derived from
# its id. A device is handed only the signer of its own node; the check knows all secrets and signs again.


def signer_of(node: str) -> Signer:
    """Return the signer of *node*."""
    return Signer(node.encode(), partial(_sign, _secret(node)), verify)


def verify(node: str, key: bytes, signature: bytes, text: bytes) -> bool:
    """Whether *node* has signed *text*."""
    return key == node.encode() and signature == _sign(_secret(node), text)


def _secret(node: str) -> bytes:
    return blake3(node.encode(), derive_key_context="p2pfl simulated key").digest()


def _sign(secret: bytes, text: bytes) -> bytes:
    return blake3(text, key=secret).digest()
