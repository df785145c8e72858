"""What runs in a process of Ray: it opens the federation once, and then trains clients.

Another machine has its own copy of the data and of the user's code. So a process tells what it has read, and
the engine refuses one with other data, whose updates would differ without a word.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Sequence
from typing import Any

import msgspec
import torch
from blake3 import blake3

from p2pfl.cards import Agreement
from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.own.interface import Task
from p2pfl.learning.simulation.blobs import digest_of
from p2pfl.learning.simulation.clients import ClientTrainer, RoundStart
from p2pfl.learning.simulation.federation import SimulatedFederation, open_federation
from p2pfl.learning.simulation.orders import OrderFailed, answer, decode_order, encode, explained, failed
from p2pfl.learning.simulation.simulated import SimulatedRun

COMPARED_EXAMPLES = 256
"""Examples of the first client that are compared with those of the program."""


class WhatWasRead(msgspec.Struct, frozen=True, tag="read"):
    """What a process has read; equal in all processes of a run."""

    agreement: Agreement
    test_examples: int
    examples: str
    """Digest of some training examples; empty if they are not tensors in memory."""
    model: str
    """Digest of the initial model."""


class FederationOpened(msgspec.Struct, frozen=True, tag="opened"):
    """A process of Ray is ready."""

    host: str
    read: WhatWasRead


Opening = FederationOpened | OrderFailed
"""How the start of a process ends."""

decode_opened: msgspec.msgpack.Decoder[Opening] = msgspec.msgpack.Decoder(Opening)
decode_start: msgspec.msgpack.Decoder[RoundStart] = msgspec.msgpack.Decoder(RoundStart)


class RayTrainer:
    """Trains clients and evaluates models, in a process of Ray; takes and returns bytes."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._trainer: ClientTrainer | None = None
        self._code = ""
        self._place: Any = None
        """Reference of what the clients of the round begin with, in Ray's memory."""
        self._start = RoundStart(0, b"")

    def open(self, run: str, task: Task | None) -> bytes:
        """Read the data of *run*, whose task may be an object; return an encoded `Opening`."""
        opened = SimulatedRun.from_text(run)
        self._code = opened.places.code
        try:
            with explained(self._code):
                federation = open_federation(opened, task)
                self._trainer = ClientTrainer(federation)
                return encode(
                    FederationOpened(socket.gethostname(), what_was_read(federation, self._trainer.initial()))
                )
        except Exception as error:  # noqa: BLE001  of the user's code or of torch: told in the program
            return encode(failed(error))

    def do(self, order: bytes, places: Sequence[Any]) -> bytes:
        """Do the encoded *order*; return an encoded reply.

        *places* is one reference. In a list, Ray passes it as it is, so it is fetched once a round.
        """
        assert self._trainer is not None
        (place,) = places
        if place != self._place:
            ray: Any = importlib.import_module("ray")
            self._start, self._place = decode_start.decode(ray.get(place)), place
            self._trainer.begin(self._start)
        return encode(answer(decode_order.decode(order), self._trainer, self._start.model, self._code))


def what_was_read(federation: SimulatedFederation, initial: bytes) -> WhatWasRead:
    """Return what a process has read that opened *federation*, whose first model is *initial*."""
    examples = ""
    if federation.prepared.train is None:
        batches = federation.prepared.train_part(0)
        if isinstance(batches, TensorBatches):
            digest = blake3()
            for one in (batches.x, batches.y):
                some = one[batches.rows[:COMPARED_EXAMPLES]].detach().cpu().contiguous()
                digest.update(some.flatten().view(torch.uint8).numpy().tobytes())
            examples = digest.hexdigest()
    return WhatWasRead(federation.agreement, federation.test_examples, examples, digest_of(initial))
