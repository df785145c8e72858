"""One client of a simulation at a time: trains like a node, from bytes to bytes.

A `ClientTrainer` holds one module and the data of all clients, so an engine needs one in each process. What
it takes and returns are small frozen values with bytes, which pass through pipes and over networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from p2pfl.errors import TaskError
from p2pfl.learning import training
from p2pfl.learning.batches import Batches, TensorBatches
from p2pfl.learning.local_evaluation import evaluate_locally, held_out
from p2pfl.learning.local_model import LocalModel
from p2pfl.learning.local_training import LocalInputs, train_locally
from p2pfl.learning.optimizers import scheduled
from p2pfl.learning.simulation import attacks
from p2pfl.learning.simulation.attack_specs import AttackSpec, Backdoor
from p2pfl.learning.simulation.blobs import MemoryReader, MemoryWriter, digest_of, load_bytes, model_bytes
from p2pfl.learning.simulation.federation import SimulatedFederation
from p2pfl.learning.simulation.stacked import check_stacking, load_stack, stack, train_stack
from p2pfl.learning.slots import Slots, read_slots, slot_pieces
from p2pfl.learning.weights import bytes_of, not_finite
from p2pfl.messages import Evaluation
from p2pfl.schema import Schema, header, is_mark
from p2pfl.spec import slot_schema
from p2pfl.strategy_specs import state_slots
from p2pfl.work import TrainingJob

STACKS_KEPT = 2
"""Modules that train several clients at once: with equally many examples, groups have one of two sizes."""


class RoundStart(msgspec.Struct, frozen=True):
    """What all clients of a round begin with."""

    round: int
    model: bytes
    """The file of the last model."""
    state: bytes = b""
    """The file of the strategy's state; empty before the first aggregation, and without a state."""


class ClientJob(msgspec.Struct, frozen=True):
    """The training of one client in a round, or its evaluation."""

    client: int
    attacks: bool = False
    memory: bytes = b""
    """What the client remembers, as a safetensors file; empty at first."""


class ClientUpdate(msgspec.Struct, frozen=True, tag="update"):
    """What a client sends, and what it remembers for itself."""

    client: int
    blob: bytes
    """The file of the update."""
    digest: str
    examples: int
    steps: int
    loss: float
    control: bytes = b""
    """The file of the update's control; empty if the strategy has none."""
    memory: bytes = b""
    """What the client remembers if the update counts."""


class ClientFailure(msgspec.Struct, frozen=True, tag="failure"):
    """A client that has no update."""

    client: int
    reason: str


ClientResult = ClientUpdate | ClientFailure
"""How the training of a client ends."""


class PartEvaluation(msgspec.Struct, frozen=True):
    """The evaluation of a model on a part of the held-out examples."""

    evaluation: Evaluation
    hits: int = 0
    """Examples with a trigger that got the class of the attackers' choice."""
    tried: int = 0
    """Examples of other classes, which were tried with the trigger."""


class ClientTrainer:
    """Trains clients and evaluates models, one after another, with one module."""

    def __init__(self, federation: SimulatedFederation) -> None:
        self._federation = federation
        self._run = federation.run
        self._prepared = federation.prepared
        self._model: LocalModel | None = None
        self._schema: Schema = ()
        self._start = RoundStart(0, b"")
        self._train_parts: dict[int, tuple[Batches, int]] = {}
        """By client: its examples and their number as its data card states it."""
        self._stacks: dict[int, nn.Module] = {}
        """By the number of clients: modules that train so many at once."""
        self._test_parts: dict[tuple[int, int], Batches] = {}

    def initial(self) -> bytes:
        """Return the file of the initial model, which the seed of the run determines.

        Raises:
            TaskError: the model cannot be built, or has a number that is not finite.
        """
        self._model = None  # one that was trained has other parameters
        module = self._built().module
        if name := not_finite(module):
            raise TaskError(
                f"The initial model has a number that is not finite (NaN or infinity) in {name!r}, a "
                "trainable parameter: correct its initialisation in the task, or make it a buffer."
            )
        return model_bytes(module, self._schema)

    def begin(self, start: RoundStart) -> None:
        """Train and judge from *start* from now on."""
        self._start = start

    def train(self, job: ClientJob) -> ClientResult:
        """Do *job* with the model of the round.

        Raises:
            TaskError: the user's code is wrong.
        """
        model = self._loaded(self._start.model, job.memory)
        module = model.module
        attack = self._run.attack if job.attacks else None
        prepared, spec = self._prepared, self._run.spec
        part, examples = self._part(job.client)
        if attack is not None and part is not None and attacks.poisons(attack):
            part = attacks.poisoned(part, attack, self._federation.agreement)
        inputs = LocalInputs(self._state, lambda: _remembered(job.memory), part)
        training_job = TrainingJob(
            "", self._start.round, spec, self._federation.agreement, "", job.client,
            trained=self._start.round - 1, rounds=spec.rounds, members=self._run.clients,
        )  # fmt: skip
        try:
            result = train_locally(prepared, training_job, model, inputs, _ignore)
        except TaskError as error:
            if not isinstance(error.__cause__, training.DivergedError):
                raise
            return ClientFailure(job.client, str(error))
        if attack is not None:
            self._forge(module, attack, job.client)
        if name := not_finite(module):
            return ClientFailure(job.client, f"its update is not finite in {name!r}")
        blob = model_bytes(module, self._schema)
        control = self._control(result.control) if result.control else b""
        return ClientUpdate(
            job.client,
            blob,
            digest_of(blob),
            examples=examples,
            steps=result.steps,
            loss=result.loss,
            control=control,
            memory=_memory_bytes(result.memory),
        )

    def train_group(self, jobs: Sequence[ClientJob]) -> list[ClientResult]:
        """Do *jobs*; clients with equally many examples are trained at once, but attackers are not.

        Raises:
            TaskError: the user's code is wrong, or the model cannot be trained this way.
        """
        groups: dict[int, list[ClientJob]] = {}
        for number, job in enumerate(jobs, start=1):
            part, _ = self._part(job.client)
            is_together = isinstance(part, TensorBatches) and not job.attacks
            groups.setdefault(part.examples if part is not None and is_together else -number, []).append(job)
        results: list[ClientResult] = []
        for group in groups.values():
            results += self._train_stack(group) if len(group) > 1 else [self.train(group[0])]
        return results

    def _train_stack(self, jobs: Sequence[ClientJob]) -> list[ClientResult]:
        """Train the clients of *jobs* at once. One that fails is trained again alone, which tells why."""
        number, spec = self._start.round, self._run.spec
        model = self._loaded(self._start.model)
        parts = [
            part for part, _ in (self._part(job.client) for job in jobs) if isinstance(part, TensorBatches)
        ]
        if not self._stacks:
            check_stacking(model.module, parts, spec.training.batch_size)
        stacked = self._stacks.get(len(jobs))
        if stacked is None:
            if len(self._stacks) == STACKS_KEPT:
                del self._stacks[next(iter(self._stacks))]
            stacked = self._stacks[len(jobs)] = stack(model.module, len(jobs))
        load_stack(stacked, model.module)
        options = scheduled(spec.training, number - 1, spec.rounds)
        seeds = [training.derive_seed("train", spec.seed, number, job.client) for job in jobs]
        steps, losses = train_stack(stacked, parts, self._prepared.objective, options, seeds)
        named = {name: value.detach() for name, value in stacked.named_parameters()}
        is_whole = losses.isfinite()
        for value in named.values():
            is_whole &= value.flatten(1).isfinite().all(1)
        results: list[ClientResult] = []
        for place, (job, is_right, loss) in enumerate(
            zip(jobs, is_whole.tolist(), losses.tolist(), strict=True)
        ):
            if not is_right:
                results.append(self.train(job))
                continue
            pieces = (bytes_of(named[spec.name][place]) for spec in self._schema)
            blob = b"".join([header(self._schema), *pieces])
            _, examples = self._part(job.client)
            results.append(ClientUpdate(job.client, blob, digest_of(blob), examples, steps, loss))
        return results

    def evaluate(self, model: bytes, part: int, parts: int) -> PartEvaluation:
        """Evaluate *model* on part *part* of *parts* of the held-out examples."""
        module = self._loaded(model).module
        if self._prepared.evaluate is not None:
            return PartEvaluation(self._prepared.evaluate(module))
        if (part, parts) not in self._test_parts:
            self._test_parts[part, parts] = self._prepared.test_part(part, parts)
        batches = self._test_parts[part, parts]
        evaluation = training.evaluate(module, batches, self._prepared.objective)
        hits, tried = attacks.count_hits(module, batches, self._run.attack)
        return PartEvaluation(evaluation, hits, tried)

    def judge(self, job: ClientJob) -> PartEvaluation:
        """Evaluate the model of the round with what the client of *job* has of its own, as a node does.

        Raises:
            TaskError: the user's code is wrong.
        """
        model = self._loaded(self._start.model, job.memory)
        prepared, run = self._prepared, self._run
        evaluation_job = self._federation.evaluation_of(job.client, self._start.round)
        hits = tried = 0
        if isinstance(run.attack, Backdoor) and prepared.evaluate is None:
            hits, tried = attacks.count_hits(model.module, held_out(prepared, evaluation_job), run.attack)
        part, _ = self._part(job.client)
        evaluation = evaluate_locally(prepared, evaluation_job, model, lambda: _remembered(job.memory), part)
        return PartEvaluation(evaluation, hits, tried)

    def _part(self, client: int) -> tuple[Batches | None, int]:
        """Return the examples of *client*, None if a loop of the user's own reads them; and their number."""
        examples = self._prepared.part_card
        if self._prepared.train is not None:
            return None, examples(client).examples
        if client not in self._train_parts:
            self._train_parts[client] = self._prepared.train_part(client), examples(client).examples
        return self._train_parts[client]

    def _forge(self, module: torch.nn.Module, attack: AttackSpec, client: int) -> None:
        """Change the trained *module* into what the attacker sends."""
        seed = training.derive_seed("attack", self._run.spec.seed, self._start.round, client)
        before = MemoryReader(self._start.model, self._schema)
        attacks.forge(module, before, attack, seed)

    def _state(self) -> Slots:
        slots = state_slots(self._run.spec.strategy)
        if not self._start.state:
            module = self._built().module.state_dict()
            names = (one.name for one in self._schema if not is_mark(one))
            zeros = {name: torch.zeros_like(module[name], device="cpu") for name in names}
            return dict.fromkeys(slots, zeros)
        return read_slots(MemoryReader(self._start.state), self._schema, slots)

    def _control(self, control: Slots) -> bytes:
        writer = MemoryWriter(slot_schema(self._schema, tuple(control)))
        for piece in slot_pieces(control, self._schema):
            writer.add(piece)
        writer.finish(durable=False)
        return writer.blob

    def _built(self) -> LocalModel:
        if self._model is None:
            model = self._federation.build_model()
            self._schema = model.schema
            model.module.to(self._federation.device)
            self._model = model
        return self._model

    def _loaded(self, shared: bytes, memory: bytes = b"") -> LocalModel:
        """Return the model with the tensors of the file *shared*, and the personal ones of *memory*."""
        model = self._built()
        load_bytes(shared, model.module, self._schema)
        model.restore_own(lambda: _remembered(memory))
        return model


def _remembered(memory: bytes) -> dict[str, Tensor]:
    return load(memory) if memory else {}


def _memory_bytes(memory: Mapping[str, Tensor]) -> bytes:
    if not memory:
        return b""
    return bytes(save({name: value.detach().cpu().contiguous() for name, value in memory.items()}))


def _ignore(_done: int, _total: int) -> None:
    """Do nothing after a batch: a simulation is not stopped between two."""
