"""What attackers do: they train with wrong data, or send something else than what they have trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor, nn

from p2pfl.cards import Agreement
from p2pfl.errors import TaskError
from p2pfl.learning.batches import Batch, Batches, call_model
from p2pfl.learning.simulation.attack_specs import (
    Alie,
    AttackSpec,
    Backdoor,
    GaussianNoise,
    InnerProduct,
    LabelFlip,
    SignFlip,
)
from p2pfl.learning.simulation.blobs import MemoryReader, MemoryWriter
from p2pfl.learning.training import EVALUATION_BATCH
from p2pfl.learning.weights import TORCH_DTYPES, bytes_of
from p2pfl.schema import Schema, is_mark


def poisons(attack: AttackSpec) -> bool:
    """Return whether *attack* changes the training data of an attacker."""
    return isinstance(attack, LabelFlip | Backdoor)


def colludes(attack: AttackSpec) -> bool:
    """Return whether all attackers send the same, which follows from the honest updates of the round."""
    return isinstance(attack, Alie | InnerProduct)


# --- training data ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PoisonedBatches:
    """Training examples that are changed batch by batch."""

    clean: Batches
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """Returns inputs and targets of a batch, changed."""

    @property
    def examples(self) -> int:
        """Number of examples."""
        return self.clean.examples

    @property
    def labels(self) -> Tensor | None:
        """The classes before the change."""
        return self.clean.labels

    def shuffled(self, sizes: list[int], generator: torch.Generator) -> Iterator[Batch]:
        """Yield all examples once in random order, in batches of *sizes*, changed."""
        return map(self._changed, self.clean.shuffled(sizes, generator))

    def ordered(self, size: int) -> Iterator[Batch]:
        """Yield all examples in their order, in batches of at most *size*, changed."""
        return map(self._changed, self.clean.ordered(size))

    def _changed(self, batch: Batch) -> Batch:
        inputs, targets, count = batch
        return *self.change(inputs, targets), count


def check_attack(attack: AttackSpec, agreement: Agreement, batches: Batches) -> None:
    """Refuse an *attack* on training examples, some of which are *batches*, that they do not allow.

    Raises:
        TaskError: the task has no classes, the class of the backdoor is none of them, or the inputs of a
            backdoor are no tensor.
    """
    if not poisons(attack):
        return
    name, classes = attack.__struct_config__.tag, len(agreement.classes)
    if not classes:
        raise TaskError(f"The attack {name!r} needs a task with classes; choose another attack.")
    if not isinstance(attack, Backdoor):
        return
    if attack.target >= classes:
        raise TaskError(
            f"The target of the backdoor is {attack.target}, and the task has {classes} classes, numbered "
            "from 0; choose one of these."
        )
    inputs, _, _ = next(iter(batches.ordered(1)))
    if not isinstance(inputs, Tensor):
        raise TaskError("A backdoor changes inputs that are one tensor, and those of the task are several.")


def poisoned(batches: Batches, attack: AttackSpec, agreement: Agreement) -> PoisonedBatches:
    """Return the training examples *batches* of an attacker as it changes them."""
    classes = len(agreement.classes)
    match attack:
        case LabelFlip():
            # Fang et al. 2020: label l of L classes becomes L - l - 1.
            return PoisonedBatches(batches, lambda inputs, targets: (inputs, classes - 1 - targets))
        case Backdoor():
            return PoisonedBatches(batches, lambda inputs, targets: _with_backdoor(inputs, targets, attack))
        case _:
            raise AssertionError(attack)


def _with_backdoor(inputs: Tensor, targets: Tensor, attack: Backdoor) -> tuple[Tensor, Tensor]:
    count = max(1, round(attack.share * len(targets)))
    targets = targets.clone()
    targets[:count] = attack.target
    return torch.cat([triggered(inputs[:count], attack.size), inputs[count:]]), targets


def triggered(inputs: Tensor, size: int) -> Tensor:
    """Return copies of *inputs* [batch, ...] with a trigger: their largest value in the last corner.

    In pictures [batch, channels, height, width] it is a square of *size* pixels, else the last *size*
    elements of the last dimension.
    """
    changed = inputs.clone()
    corner = changed[..., -size:, -size:] if inputs.ndim >= 3 else changed[..., -size:]
    corner.fill_(inputs.max())
    return changed


@torch.no_grad()
def count_hits(module: nn.Module, batches: Batches, attack: AttackSpec | None) -> tuple[int, int]:
    """Return how many held-out examples of other classes get the class of the backdoor, and of how many.

    All of them have the trigger. 0 and 0 for other attacks.
    """
    if not isinstance(attack, Backdoor):
        return 0, 0
    hits = tried = 0
    for inputs, targets, _ in batches.ordered(EVALUATION_BATCH):
        others = targets != attack.target
        if not others.any():
            continue
        outputs = call_model(module, triggered(inputs, attack.size)[others])
        hits += int((outputs.argmax(1) == attack.target).sum())
        tried += int(others.sum())
    return hits, tried


# --- updates ------------------------------------------------------------------------------------------------


@torch.no_grad()
def forge(module: nn.Module, before: MemoryReader, attack: AttackSpec, seed: int) -> None:
    """Change the parameters of the trained *module* into what an attacker sends; *before* is the last model.

    Buffers stay.
    """
    state = module.state_dict(keep_vars=True)
    generator = torch.Generator().manual_seed(seed)
    for spec in before.schema:
        old = torch.empty(spec.shape, dtype=TORCH_DTYPES[spec.dtype])
        before.fill(bytes_of(old))
        if is_mark(spec):
            continue
        new = state[spec.name]
        if spec.is_buffer or not new.is_floating_point():
            continue
        ours = new.detach().cpu()
        match attack:
            case SignFlip():
                # Li et al. 2019: the message times a negative constant.
                new.copy_(old - attack.scale * (ours - old))
            case GaussianNoise():
                # Blanchard et al. 2017: a vector of a normal distribution with mean 0 in place of a change.
                noise = torch.randn(old.shape, generator=generator, dtype=torch.float64)
                new.copy_(old + (attack.sigma * noise).to(old.dtype))
            case Backdoor() if attack.scale != 1:
                # Bagdasaryan et al. 2020, equation 3: gamma (X - G) + G.
                new.copy_(old + attack.scale * (ours - old))
            case _:
                return


def collude(
    honest: Iterable[MemoryReader], before: MemoryReader, attack: AttackSpec, clients: int, attackers: int
) -> bytes:
    """Return the file that all attackers of a round send, from the *honest* updates (at least one).

    *before* is the last model, *clients* the number of clients in the round, *attackers* included.
    """
    mean, deviation, schema = _moments(honest)
    writer = MemoryWriter(schema)
    z = _largest_z(clients, attackers) if isinstance(attack, Alie) and not attack.z else 0.0
    for spec in schema:
        old = torch.empty(spec.shape, dtype=TORCH_DTYPES[spec.dtype])
        before.fill(bytes_of(old))
        if spec.name not in mean:  # an integer or a boolean
            writer.add(old)
            continue
        centre = mean[spec.name]
        match attack:
            case Alie():
                # Baruch et al. 2019, algorithm 3, line 4: mu + z sigma.
                forged = centre + (attack.z or z) * deviation[spec.name]
            case InnerProduct():
                # Xie et al. 2020: minus epsilon times the mean of the honest changes.
                forged = old.double() - attack.epsilon * (centre - old.double())
            case _:
                raise AssertionError(attack)
        writer.add((centre if spec.is_buffer else forged).to(old.dtype))
    writer.finish(durable=False)
    return writer.blob


def _largest_z(clients: int, attackers: int) -> float:
    """Return z_max of Baruch et al. 2019, algorithm 3, lines 1 and 2; at least 0."""
    supporters = clients // 2 + 1 - attackers
    share = (clients - attackers - supporters) / (clients - attackers)
    return max(0.0, NormalDist().inv_cdf(min(max(share, 1e-9), 1 - 1e-9)))


def _moments(honest: Iterable[MemoryReader]) -> tuple[dict[str, Tensor], dict[str, Tensor], Schema]:
    """Return mean and standard deviation of each float tensor, in float64, and the schema.

    One update is in memory at a time (the method of Welford 1962).
    """
    mean: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    schema: Schema = ()
    count = 0
    for reader in honest:
        count += 1
        schema = reader.schema
        for spec in schema:
            values = torch.empty(spec.shape, dtype=TORCH_DTYPES[spec.dtype])
            reader.fill(bytes_of(values))
            if not values.is_floating_point():
                continue
            wide = values.double()
            if count == 1:
                mean[spec.name], squares[spec.name] = wide, torch.zeros_like(wide)
                continue
            difference = wide - mean[spec.name]
            mean[spec.name] += difference / count
            squares[spec.name] += difference * (wide - mean[spec.name])
    return mean, {name: (one / count).sqrt() for name, one in squares.items()}, schema
