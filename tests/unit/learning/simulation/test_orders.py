from __future__ import annotations

from pathlib import Path

import pytest
import torch

from p2pfl.errors import TaskError, WorkerError
from p2pfl.learning.simulation.clients import ClientJob, ClientTrainer, RoundStart
from p2pfl.learning.simulation.federation import open_federation
from p2pfl.learning.simulation.orders import (
    EvaluatePart,
    OrderFailed,
    PartDone,
    TrainOne,
    answer,
    decode_reply,
    encode,
    failed,
    isolated,
    raised,
)
from tests.support.simulated import quick_federation, quick_run
from tests.support.user_tasks import write_task


def test_threads_and_random_numbers_of_the_program_are_as_before() -> None:
    before, state = torch.get_num_threads(), torch.random.get_rng_state()
    with isolated():
        assert torch.get_num_threads() == 1
        torch.rand(3)
    assert torch.get_num_threads() == before
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_order_is_answered_with_what_a_trainer_returns() -> None:
    trainer = ClientTrainer(quick_federation())
    model = trainer.initial()
    trainer.begin(RoundStart(1, model))
    assert answer(TrainOne(ClientJob(2)), trainer, model, "") == trainer.train(ClientJob(2))
    reply = answer(EvaluatePart(1, 2), trainer, model, "")
    assert reply == PartDone(1, trainer.evaluate(model, 1, 2))
    assert decode_reply.decode(encode(reply)) == reply


FAILING = """
import torch
from torch import nn
def model(): return nn.Linear(3, 2)
def data(): return torch.zeros(40, 3), torch.arange(40) % 2
def loss(outputs, targets):
    if outputs.requires_grad:
        raise ValueError("bad batch")
    return nn.functional.cross_entropy(outputs, targets)
"""


def test_an_error_in_the_users_code_is_answered_with_their_line(tmp_path: Path) -> None:
    run = quick_run(task=write_task(tmp_path, FAILING), model=None)
    trainer = ClientTrainer(open_federation(run))
    trainer.begin(RoundStart(1, trainer.initial()))
    reply = answer(TrainOne(ClientJob(0)), trainer, b"", run.places.code)
    assert isinstance(reply, OrderFailed)
    error = raised(reply)
    assert isinstance(error, TaskError)
    assert "line 7, in loss(): ValueError: bad batch" in str(error)


def test_an_error_that_is_not_the_users_is_one_of_the_process() -> None:
    reply = failed(RuntimeError("no more memory"))
    assert reply == OrderFailed("A client failed with RuntimeError: no more memory", False)
    with pytest.raises(WorkerError, match="no more memory"):
        raise raised(reply)
