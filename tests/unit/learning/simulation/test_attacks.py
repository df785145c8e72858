"""Each attack against a computation by hand."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

import pytest
import torch
from torch import nn

from p2pfl.cards import CLASSIFICATION, REGRESSION, Agreement
from p2pfl.errors import TaskError
from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.simulation import attacks
from p2pfl.learning.simulation.attack_specs import (
    Alie,
    AttackSpec,
    Backdoor,
    GaussianNoise,
    InnerProduct,
    LabelFlip,
    SignFlip,
)
from p2pfl.learning.simulation.blobs import MemoryReader, load_bytes, model_bytes
from p2pfl.learning.weights import schema_of

AGREEMENT = Agreement(tuple("abcd"), 8, CLASSIFICATION)


def batches(*shape: int) -> TensorBatches:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(8, *shape, generator=generator)
    return TensorBatches(x, torch.arange(8) % 4, torch.arange(8))


class Net(nn.Module):
    """A model with parameters, a float buffer and an integer buffer."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(5, generator=generator))
        self.register_buffer("mean", torch.randn(2, generator=generator))
        self.register_buffer("steps", torch.tensor(seed))


def reader(module: nn.Module) -> MemoryReader:
    return MemoryReader(model_bytes(module))


def forged(attack: AttackSpec, seed: int = 0) -> tuple[nn.Module, nn.Module, Net]:
    before, trained, sent = Net(1), Net(2), Net(2)
    attacks.forge(sent, reader(before), attack, seed)
    assert torch.equal(sent.get_buffer("mean"), trained.get_buffer("mean"))
    return before, trained, sent


def test_a_label_is_flipped_to_the_one_from_the_other_end() -> None:
    (_, targets, count), *_ = attacks.poisoned(batches(3), LabelFlip(), AGREEMENT).ordered(8)
    assert (targets.tolist(), count) == ([3, 2, 1, 0, 3, 2, 1, 0], 8)


def test_poisoned_examples_keep_their_order_and_number() -> None:
    clean, generator = batches(3), torch.Generator().manual_seed(5)
    poisoned = attacks.poisoned(clean, LabelFlip(), AGREEMENT)
    found = list(poisoned.shuffled([5, 3], torch.Generator().manual_seed(5)))
    for (x, y, _), (clean_x, clean_y, _) in zip(found, clean.shuffled([5, 3], generator), strict=True):
        assert torch.equal(x, clean_x)
        assert torch.equal(y, 3 - clean_y)
    assert (poisoned.examples, poisoned.labels is not None) == (8, True)


def test_a_backdoor_changes_its_share_of_a_batch() -> None:
    clean = batches(1, 4, 4)
    attack = Backdoor(target=2, share=0.25, size=2)
    (x, y, _), *_ = attacks.poisoned(clean, attack, AGREEMENT).ordered(8)
    assert y.tolist() == [2, 2, 2, 3, 0, 1, 2, 3]
    assert torch.equal(x[2:], clean.x[2:])
    assert (x[:2, :, -2:, -2:] == clean.x[:2].max()).all()
    assert torch.equal(x[:2, :, :2], clean.x[:2, :, :2])
    assert not torch.equal(x[:2], clean.x[:2])


def test_the_trigger_of_rows_is_in_their_last_elements() -> None:
    rows = torch.tensor([[0.0, 1.0, 5.0], [2.0, 3.0, 4.0]])
    assert attacks.triggered(rows, 1).tolist() == [[0.0, 1.0, 5.0], [2.0, 3.0, 5.0]]
    assert rows[1, 2] == 4.0


def test_hits_are_examples_of_other_classes_that_get_the_target() -> None:
    class AlwaysTwo(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.one_hot(torch.full((len(x),), 2), 4).float()

    assert attacks.count_hits(AlwaysTwo(), batches(3), Backdoor(target=2)) == (6, 6)
    assert attacks.count_hits(AlwaysTwo(), batches(3), Backdoor(target=1)) == (0, 6)
    assert attacks.count_hits(AlwaysTwo(), batches(3), SignFlip()) == (0, 0)


def test_attacks_on_classes_need_classes() -> None:
    numbers = Agreement((), 8, REGRESSION)
    for attack in (LabelFlip(), Backdoor()):
        with pytest.raises(TaskError, match=r"attack '(label-flip|backdoor)' needs a task with classes"):
            attacks.check_attack(attack, numbers, batches(3))
        attacks.check_attack(attack, AGREEMENT, batches(3))
    attacks.check_attack(SignFlip(), numbers, batches(3))
    with pytest.raises(TaskError, match="target of the backdoor is 4, and the task has 4 classes"):
        attacks.check_attack(Backdoor(target=4), AGREEMENT, batches(3))


def test_a_backdoor_needs_inputs_that_are_one_tensor() -> None:
    class Pairs(TensorBatches):
        def ordered(self, size: int) -> Iterator[Any]:
            return (((inputs, inputs), targets, count) for inputs, targets, count in super().ordered(size))

    clean = batches(3)
    pairs = Pairs(clean.x, clean.y, clean.rows)
    with pytest.raises(TaskError, match="changes inputs that are one tensor"):
        attacks.check_attack(Backdoor(), AGREEMENT, pairs)
    attacks.check_attack(LabelFlip(), AGREEMENT, pairs)


def test_a_flipped_sign_is_the_opposite_change() -> None:
    before, trained, sent = forged(SignFlip(scale=2.0))
    old, new = before.get_parameter("weight"), trained.get_parameter("weight")
    assert torch.allclose(sent.weight, old - 2 * (new - old))


def test_noise_takes_the_place_of_the_change_and_follows_from_the_seed() -> None:
    before, _, sent = forged(GaussianNoise(sigma=0.5), seed=3)
    noise = torch.randn(5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert torch.allclose(sent.weight, before.get_parameter("weight") + 0.5 * noise.float())
    assert torch.equal(sent.weight, forged(GaussianNoise(sigma=0.5), seed=3)[2].weight)
    assert not torch.equal(sent.weight, forged(GaussianNoise(sigma=0.5), seed=4)[2].weight)


def test_a_scaled_backdoor_multiplies_the_change() -> None:
    before, trained, sent = forged(Backdoor(scale=5.0))
    old, new = before.get_parameter("weight"), trained.get_parameter("weight")
    assert torch.allclose(sent.weight, old + 5 * (new - old))


@pytest.mark.parametrize("attack", [LabelFlip(), Backdoor()])
def test_other_attackers_send_what_they_have_trained(attack: AttackSpec) -> None:
    _, trained, sent = forged(attack)
    assert torch.equal(sent.weight, trained.get_parameter("weight"))


HONEST = [Net(number) for number in range(10, 17)]
WEIGHTS = torch.stack([one.weight.detach().double() for one in HONEST])


def colluded(attack: AttackSpec, clients: int, attackers: int) -> Net:
    before, sent = Net(1), Net(0)
    blob = attacks.collude(map(reader, HONEST), reader(before), attack, clients, attackers)
    load_bytes(blob, sent, schema_of(sent))
    return sent


def test_a_little_is_enough_stays_within_the_spread_of_the_honest() -> None:
    sent = colluded(Alie(z=1.5), 10, 3)
    expected = WEIGHTS.mean(0) + 1.5 * WEIGHTS.std(0, correction=0)
    assert torch.allclose(sent.weight.double(), expected, atol=1e-6)
    means = torch.stack([one.get_buffer("mean").double() for one in HONEST])
    assert torch.allclose(sent.get_buffer("mean").double(), means.mean(0), atol=1e-6)
    assert sent.get_buffer("steps") == 1, "an integer is that of the last model"


def test_the_largest_z_is_that_of_the_paper() -> None:
    # 50 clients, 24 attackers: s = 26 - 24 = 2 supporters, and phi(z) = (50 - 24 - 2) / (50 - 24).
    z = NormalDist().inv_cdf(24 / 26)
    sent = colluded(Alie(), 50, 24)
    assert torch.allclose(sent.weight.double(), WEIGHTS.mean(0) + z * WEIGHTS.std(0, correction=0), atol=1e-6)
    assert torch.allclose(colluded(Alie(), 10, 1).weight.double(), WEIGHTS.mean(0), atol=1e-6)


def test_the_inner_product_with_the_honest_mean_becomes_negative() -> None:
    sent, before = colluded(InnerProduct(epsilon=0.25), 10, 3), Net(1).weight.detach().double()
    honest = WEIGHTS.mean(0) - before
    change = sent.weight.double() - before
    assert torch.allclose(change, -0.25 * honest, atol=1e-6)
    assert change @ honest < 0


def test_which_attacks_change_data_and_which_are_made_together() -> None:
    every = (LabelFlip(), SignFlip(), GaussianNoise(), Alie(), InnerProduct(), Backdoor())
    assert [attacks.poisons(one) for one in every] == [True, False, False, False, False, True]
    assert [attacks.colludes(one) for one in every] == [False, False, False, True, True, False]
