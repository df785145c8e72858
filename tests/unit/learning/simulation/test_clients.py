from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load

from p2pfl.learning.simulation.blobs import MemoryReader, digest_of
from p2pfl.learning.simulation.clients import (
    ClientFailure,
    ClientJob,
    ClientResult,
    ClientTrainer,
    ClientUpdate,
    RoundStart,
)
from p2pfl.messages import add_evaluations
from tests.support.simulated import quick_federation
from tests.support.user_tasks import write_task


def started(**options: object) -> ClientTrainer:
    trainer = ClientTrainer(quick_federation(**options))
    trainer.begin(RoundStart(1, trainer.initial()))
    return trainer


def updated(result: ClientResult) -> ClientUpdate:
    assert isinstance(result, ClientUpdate), result
    return result


def test_the_seed_determines_the_initial_model_and_leaves_the_callers_random_numbers() -> None:
    state = torch.random.get_rng_state()
    first = ClientTrainer(quick_federation()).initial()
    assert torch.equal(state, torch.random.get_rng_state())
    assert first == ClientTrainer(quick_federation()).initial()
    assert first != ClientTrainer(quick_federation(seed=8)).initial()


def test_the_initial_model_is_the_same_after_a_training() -> None:
    trainer = started()
    trainer.train(ClientJob(0))
    assert trainer.initial() == ClientTrainer(quick_federation()).initial()


def test_an_update_depends_on_client_and_round_only() -> None:
    trainer = started()
    first = updated(trainer.train(ClientJob(2)))
    assert (first.digest, first.examples, first.steps) == (digest_of(first.blob), 359, 6)
    trainer.train(ClientJob(1))
    assert updated(trainer.train(ClientJob(2))) == first
    trainer.begin(RoundStart(2, trainer.initial()))
    assert updated(trainer.train(ClientJob(2))).digest != first.digest


def test_a_training_that_diverges_is_a_failure_of_its_client() -> None:
    result = started(lr=1e6).train(ClientJob(0))
    assert isinstance(result, ClientFailure)
    assert "diverged" in result.reason


def test_the_parts_of_the_held_out_examples_make_the_whole() -> None:
    trainer = started()
    model = trainer.initial()
    whole = trainer.evaluate(model, 0, 1).evaluation
    parts = [trainer.evaluate(model, part, 3).evaluation for part in range(3)]
    assert add_evaluations(parts).metrics == pytest.approx(whole.metrics)
    assert whole.examples == 360


def test_a_clients_memory_and_control_are_files() -> None:
    trainer = started(strategy="scaffold")
    first = updated(trainer.train(ClientJob(0)))
    assert MemoryReader(first.control).schema[0].shape[1] == 1
    again = updated(trainer.train(ClientJob(0, memory=first.memory)))
    assert again.digest != first.digest, "the remembered control variate corrects the steps"


def test_an_attacker_sends_something_else() -> None:
    trainer = started(attackers=1, attack="sign-flip")
    honest, attacker = (
        updated(trainer.train(ClientJob(0))),
        updated(trainer.train(ClientJob(0, attacks=True))),
    )
    assert honest.digest != attacker.digest
    assert (honest.loss, honest.examples) == (attacker.loss, attacker.examples)


def test_the_success_of_a_backdoor_is_counted() -> None:
    trainer = started(attackers=1, attack="backdoor", attack_args={"target": 3})
    result = trainer.evaluate(trainer.initial(), 0, 1)
    assert 0 <= result.hits <= result.tried
    assert 300 < result.tried < 360
    poisoned = updated(trainer.train(ClientJob(0, attacks=True)))
    assert poisoned.digest != updated(trainer.train(ClientJob(0))).digest


@pytest.mark.parametrize("model", ["2nn", "cnn"])
def test_clients_trained_at_once_make_the_models_of_single_ones(model: str) -> None:
    trainer = started(
        vectorised=True, clients=9, model=model, attackers=[4], attack="sign-flip", schedule="cosine"
    )
    trainer.begin(RoundStart(2, trainer.initial()))
    jobs = [ClientJob(client, attacks=client == 4) for client in range(6)]
    assert trainer.train_group(jobs[:1]) == [trainer.train(jobs[0])]
    at_once = {one.client: updated(one) for one in trainer.train_group(jobs)}
    assert sorted(at_once) == [0, 1, 2, 3, 4, 5]
    for job in jobs:
        alone, found = updated(trainer.train(job)), at_once[job.client]
        assert (found.examples, found.steps) == (alone.examples, alone.steps)
        assert found.loss == pytest.approx(alone.loss, rel=1e-5)
        tensors, others = load(found.blob), load(alone.blob)
        for name, value in others.items():
            assert ((tensors[name] - value).abs().max() / value.abs().max()).item() < 1e-5
    assert len({update.digest for update in at_once.values()}) == 6


def test_a_client_that_diverges_among_others_fails_as_alone() -> None:
    trainer = started(vectorised=True, lr=1e6)
    found = {one.client: one for one in trainer.train_group([ClientJob(0), ClientJob(1), ClientJob(2)])}
    assert found == {client: trainer.train(ClientJob(client)) for client in range(3)}
    assert isinstance(found[0], ClientFailure)


def test_groups_of_many_sizes_do_not_fill_the_memory() -> None:
    trainer = started(vectorised=True, clients=9)
    sizes = []
    for size in (2, 3, 4, 3):
        trainer.train_group([ClientJob(client) for client in (1, 2, 4, 5)[:size]])  # 160 examples each
        sizes.append([*trainer._stacks])
    assert sizes == [[2], [2, 3], [3, 4], [3, 4]]


def test_jobs_and_results_pass_through_messagepack() -> None:
    encode, start = msgspec.msgpack.encode, RoundStart(3, b"model", b"state")
    assert msgspec.msgpack.decode(encode(start), type=RoundStart) == start
    update: ClientResult = ClientUpdate(1, b"blob", "digest", 3, 2, 0.5, b"control", b"memory")
    for result in (update, ClientFailure(2, "why")):
        assert msgspec.msgpack.decode(encode(result), type=ClientResult) == result


BROKEN = """
import torch
from torch import nn
def model(): return nn.Linear(3, 2)
def data(): return torch.randn(40, 3), torch.arange(40) % 2
def train(model, loader, settings):
    with torch.no_grad():
        model.bias[0] = float("inf")
"""


def test_an_update_that_is_not_finite_is_a_failure_of_its_client(tmp_path: Path) -> None:
    result = started(task=write_task(tmp_path, BROKEN), model=None).train(ClientJob(0))
    assert result == ClientFailure(0, "its update is not finite in 'bias'")


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold"])
def test_clients_exchange_adapters_only(strategy: str) -> None:
    trainer = started(
        lora={"target": ("hidden*",), "rank": 2}, strategy=strategy, attack="sign-flip", attackers=1
    )
    whole = len(ClientTrainer(quick_federation()).initial())
    update = updated(trainer.train(ClientJob(0)))
    assert len(update.blob) < whole / 5
    assert updated(trainer.train(ClientJob(0, attacks=True))).digest != update.digest
