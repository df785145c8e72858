from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from p2pfl.errors import TaskError, WorkerError
from p2pfl.learning.simulation.clients import ClientJob, ClientUpdate, RoundStart
from p2pfl.learning.simulation.federation import open_federation
from p2pfl.learning.simulation.local_engine import LocalEngine, default_workers
from tests.support.simulated import quick_federation, quick_run
from tests.support.user_tasks import write_task


@contextmanager
def engine(**options: object) -> Iterator[LocalEngine]:
    opened = LocalEngine(quick_federation(**options))
    try:
        yield opened
    finally:
        opened.close()


def updates(opened: LocalEngine, clients: range, start: RoundStart | None = None) -> dict[int, ClientUpdate]:
    begun = start or RoundStart(1, opened.initial())
    found = list(opened.train(begun, [ClientJob(client) for client in clients]))
    return {one.client: one for one in found if isinstance(one, ClientUpdate)}


def test_copies_make_the_same_updates_and_evaluations_as_this_process() -> None:
    with engine(workers=1) as alone, engine(workers=3) as copies:
        assert updates(copies, range(4)) == updates(alone, range(4))
        model = alone.initial()
        assert copies.evaluate(model, 4) == alone.evaluate(model, 4)
        assert updates(copies, range(2)) == updates(alone, range(2)), "also with fewer jobs than copies"


@pytest.mark.parametrize("workers", [1, 3])
def test_clients_trained_at_once_are_spread_over_the_copies(workers: int) -> None:
    with (
        engine(workers=1, clients=8) as alone,
        engine(workers=workers, clients=8, vectorised=True) as at_once,
    ):
        wanted, found = updates(alone, range(8)), updates(at_once, range(8))
        assert list(at_once.train(RoundStart(1, alone.initial()), [])) == []
    assert sorted(found) == sorted(wanted)
    for client, update in found.items():
        assert update.loss == pytest.approx(wanted[client].loss, rel=1e-5)
        tensors, others = load(update.blob), load(wanted[client].blob)
        assert all(torch.allclose(tensors[name], others[name], rtol=1e-5, atol=1e-6) for name in others)


def test_copies_that_have_the_model_get_it_once() -> None:
    with engine(workers=1) as alone, engine(workers=2) as copies:
        trained = updates(alone, range(3))
        first, second = trained[0].blob, trained[1].blob
        assert copies.evaluate(first, 2) == alone.evaluate(first, 2)
        for start in RoundStart(2, first), RoundStart(3, first), RoundStart(3, second):
            assert updates(copies, range(3), start) == updates(alone, range(3), start)
        assert copies.evaluate(second, 2) == alone.evaluate(second, 2)


@pytest.mark.parametrize("options", [{"personal": ["out.*"]}, {"personalise": 1}, {"strategy": "ditto"}])
def test_copies_judge_models_of_clients_as_this_process_does(options: dict[str, object]) -> None:
    with engine(workers=1, **options) as alone, engine(workers=3, **options) as copies:
        start = RoundStart(1, alone.initial())
        trained = updates(alone, range(3))
        jobs = [ClientJob(client, memory=trained[client].memory) for client in range(3)] + [ClientJob(3)]
        found = copies.judge(start, jobs)
        assert found == alone.judge(start, jobs)
        assert [one.evaluation.examples for one in found] == [90] * 4


LARGE = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

classes = ["left", "right"]

def model():
    return nn.Sequential(nn.Linear(2, 100_000), nn.Linear(100_000, 2))

def data():
    return TensorDataset(torch.randn(40, 2), torch.arange(40) % 2)
"""


def test_orders_and_replies_that_fill_the_pipes_do_not_block_each_other(tmp_path: Path) -> None:
    opened = own(tmp_path, LARGE, workers=2)
    try:
        start = RoundStart(1, opened.initial())
        jobs = [ClientJob(number % 4, memory=bytes(2_000_000)) for number in range(8)]
        found = list(opened.train(start, jobs))
    finally:
        opened.close()
    assert sorted(one.client for one in found) == [0, 0, 1, 1, 2, 2, 3, 3]


THREADED = """
import threading
import torch
from p2pfl.learning.simulation.clients import ClientJob, RoundStart
from p2pfl.learning.simulation.local_engine import LocalEngine
from tests.support.simulated import quick_federation

class Nested(torch.autograd.Function):
    @staticmethod
    def forward(context, value, depth):
        context.depth = depth
        return value * 1
    @staticmethod
    def backward(context, gradient):
        if context.depth:  # backward within backward, deeper than one thread goes: autograd starts others
            with torch.enable_grad():
                Nested.apply(torch.ones(1, requires_grad=True), context.depth - 1).sum().backward()
        return gradient, None

Nested.apply(torch.ones(1, requires_grad=True), 100).sum().backward()
opened = LocalEngine(quick_federation(workers=2))
start = RoundStart(1, opened.initial())
print(len(list(opened.train(start, [ClientJob(0), ClientJob(1)]))), opened._workers)
opened.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there are no copies elsewhere")
def test_a_program_whose_forks_cannot_train_trains_alone() -> None:
    done = subprocess.run([sys.executable, "-c", THREADED], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "1"], done.stderr


def test_there_are_as_many_copies_as_can_be_busy() -> None:
    assert default_workers(quick_federation(workers=64, clients=4)) == (4 if sys.platform == "linux" else 1)
    assert default_workers(quick_federation(workers=64, clients=4, sample=2)) <= 2
    assert default_workers(quick_federation(workers=1)) == 1


KILLED = """
import os, signal, torch
from torch import nn
HOME = os.getpid()
def model(): return nn.Linear(3, 2)
def data(): return torch.randn(40, 3), torch.arange(40) % 2
def loss(outputs, targets):
    if os.getpid() != HOME:
        os.kill(os.getpid(), signal.SIGKILL)
    return nn.functional.cross_entropy(outputs, targets)
"""

FAILING = """
import torch
from torch import nn
def model(): return nn.Linear(3, 2)
def data(): return torch.randn(40, 3), torch.arange(40) % 2
def loss(outputs, targets):
    if outputs.requires_grad:
        raise ValueError("bad batch")
    return nn.functional.cross_entropy(outputs, targets)
"""


def own(folder: Path, source: str, workers: int) -> LocalEngine:
    return LocalEngine(
        open_federation(quick_run(task=write_task(folder, source), model=None, workers=workers))
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_the_users_code_names_their_line(tmp_path: Path, workers: int) -> None:
    opened = own(tmp_path, FAILING, workers)
    with pytest.raises(TaskError, match=r"line 7, in loss\(\): ValueError: bad batch"):
        updates(opened, range(4))
    opened.close()


@pytest.mark.skipif(sys.platform != "linux", reason="there are no copies elsewhere")
def test_a_copy_that_was_killed_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    opened = own(tmp_path, KILLED, 2)
    with pytest.raises(WorkerError, match=rf"has ended \(exit code -{signal.SIGKILL.value}\)"):
        updates(opened, range(4))
    opened.close()
    assert os.getpid() > 0


ENDLESS = """
import os, signal, torch
from torch import nn
def model(): return nn.Linear(3, 2)
def data(): return torch.randn(400, 3), torch.arange(400) % 2
def loss(outputs, targets):
    if outputs.requires_grad:
        os.kill(os.getppid(), signal.SIGKILL)
        while True:
            pass
    return nn.functional.cross_entropy(outputs, targets)
"""


def test_a_copy_ends_with_the_program_also_in_the_middle_of_a_training(tmp_path: Path) -> None:
    task = write_task(tmp_path, ENDLESS)
    program = f"import p2pfl; p2pfl.simulate({str(task)!r}, clients=2, workers=2, device='cpu', rounds=1)"
    # This waits for the end of the output, which the copies have too.
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL
