from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import p2pfl
from p2pfl.errors import TaskError, UserError, WorkerError
from p2pfl.learning.simulation import ray_engine
from p2pfl.learning.simulation.clients import ClientJob, ClientUpdate, RoundStart
from p2pfl.learning.simulation.federation import SimulatedFederation, open_federation
from p2pfl.learning.simulation.local_engine import LocalEngine
from p2pfl.learning.simulation.ray_connection import RayConnection
from p2pfl.learning.simulation.ray_engine import RayEngine
from tests.support.simulated import QUICK, quick_federation, quick_run
from tests.support.source import ROOT
from tests.support.user_tasks import write_task

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("ray")]


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[Any]:
    """Ray of this program, which the engines use and leave as it is."""
    connection = RayConnection("", 2)
    yield connection.ray
    connection.close()


@contextmanager
def opened(federation: SimulatedFederation) -> Iterator[RayEngine]:
    engine = RayEngine(federation)
    try:
        yield engine
    finally:
        engine.close()


def updates(engine: RayEngine | LocalEngine, clients: range, number: int = 1) -> dict[int, ClientUpdate]:
    start = RoundStart(number, engine.initial())
    found = list(engine.train(start, [ClientJob(client) for client in clients]))
    return {one.client: one for one in found if isinstance(one, ClientUpdate)}


def own(folder: Path, source: str, workers: int = 1) -> SimulatedFederation:
    return open_federation(quick_run(task=write_task(folder, source), model=None, workers=workers))


def test_ray_makes_the_same_updates_and_evaluations_as_this_process() -> None:
    federation = quick_federation(workers=2)
    local = LocalEngine(quick_federation())
    with opened(federation) as engine:
        for number in (1, 2):
            assert updates(engine, range(4), number) == updates(local, range(4), number)
        model = local.initial()
        assert engine.evaluate(model, 3) == local.evaluate(model, 3)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"strategy": "fedavg", "sample": 3}, id="fedavg"),
        pytest.param({"strategy": "scaffold"}, id="scaffold"),
        pytest.param({"strategy": "ditto"}, id="ditto", marks=pytest.mark.nightly),
        pytest.param(
            {"strategy": "multi-krum", "clients": 7, "attackers": 2, "attack": "sign-flip"},
            id="multi-krum",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_the_models_are_those_of_the_local_engine_round_by_round(options: dict[str, Any]) -> None:
    runs = [
        p2pfl.simulate(**{**QUICK, "rounds": 4, **options, **more})
        for more in ({}, {"engine": "ray", "workers": 2})
    ]
    local, of_ray = ([(row.digest, row.metrics, row.training_loss) for row in run.history] for run in runs)
    assert of_ray == local
    assert len({digest for digest, _, _ in local}) == 4


KILLED = """
import os, signal, torch
from pathlib import Path
from torch import nn
HOME = {home}
LEFT = Path(__file__).with_suffix(".left")
def model(): return nn.Linear(3, 2)
def data(): return torch.arange(120.0).reshape(40, 3) / 120, torch.arange(40) % 2
def loss(outputs, targets):
    if os.getpid() != HOME and outputs.requires_grad:
        for number in range({times}):
            try:
                LEFT.with_suffix(f".{{number}}").touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
    return nn.functional.cross_entropy(outputs, targets)
"""


def killing(folder: Path, times: int, workers: int) -> SimulatedFederation:
    """Return a task that kills its process in training, *times* times in all; never this one."""
    return own(folder, KILLED.format(home=os.getpid(), times=times), workers)


def test_the_client_of_a_process_that_was_killed_is_trained_again(tmp_path: Path) -> None:
    federation = killing(tmp_path, times=1, workers=2)
    expected = updates(
        LocalEngine(open_federation(quick_run(task=federation.run.places.code, model=None))), range(4)
    )
    with opened(federation) as engine:
        assert updates(engine, range(4)) == expected
    assert sorted(path.suffix for path in tmp_path.glob("mine.[0-9]")) == [".0"], "one was killed"


def test_a_client_that_ends_every_process_ends_the_run_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "MAX_TRIES", 2)
    with (
        opened(killing(tmp_path, times=100, workers=1)) as engine,
        pytest.raises(
            WorkerError, match=r"^2 processes of Ray have ended one after another \(.+\), perhaps for lack"
        ),
    ):
        updates(engine, range(1))


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


def test_an_error_in_the_users_code_names_their_line(tmp_path: Path) -> None:
    with (
        opened(own(tmp_path, FAILING)) as engine,
        pytest.raises(TaskError, match=r"^mine.py, line 7, in loss\(\): ValueError: bad batch$"),
    ):
        updates(engine, range(4))


UNSEEDED = """
import torch
from torch import nn
def model(): return nn.Linear(3, 2)
def data(): return torch.randn(40, 3), torch.arange(40) % 2
"""


def test_a_process_that_has_read_other_data_is_refused(tmp_path: Path) -> None:
    with (
        opened(own(tmp_path, UNSEEDED)) as engine,
        pytest.raises(TaskError, match=r"on .+ has read other data than this program: .* let data\(\) seed"),
    ):
        updates(engine, range(2))


OTHER_MODEL = """
import os, torch
from torch import nn
def model():
    module = nn.Linear(3, 2)
    nn.init.constant_(module.bias, float(os.getpid() % 997))
    return module
def data(): return torch.zeros(40, 3), torch.arange(40) % 2
"""


def test_a_process_that_has_built_another_model_is_refused(tmp_path: Path) -> None:
    with (
        opened(own(tmp_path, OTHER_MODEL)) as engine,
        pytest.raises(TaskError, match=r"on .+ has built another initial model than this program"),
    ):
        updates(engine, range(2))


OBJECT = """
import torch
from torch import nn
import p2pfl
def model(): return nn.Linear(3, 2)
def data(): return torch.arange(120.0).reshape(40, 3) / 120, torch.arange(40) % 2
task = p2pfl.Task(model=model, data=data)
"""


def test_a_task_may_be_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_task(tmp_path, OBJECT, "an_object_for_ray.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    task = importlib.import_module("an_object_for_ray").task
    monkeypatch.undo()
    options: dict[str, Any] = {"clients": 2, "rounds": 2, "device": "cpu", "workers": 1}
    assert p2pfl.simulate(task, engine="ray", **options).digest == p2pfl.simulate(task, **options).digest
    del sys.modules["an_object_for_ray"]


def test_a_task_that_cannot_be_sent_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        models: dict[str, Any] = {"model": lambda: file}
        task = p2pfl.Task(**models, data=lambda: None)
        with pytest.raises(
            TaskError, match=r"cannot be sent to the processes of Ray .* write it to a task file"
        ):
            RayConnection("", 0).put_task(task)


CONNECTED = """
import sys, p2pfl
print(p2pfl.simulate(**{options}, engine="ray", ray_address=sys.argv[1]).digest)
"""


def test_another_program_connects_to_a_cluster_and_leaves_it_as_it_is(ray: Any) -> None:
    address = ray.get_runtime_context().gcs_address
    program = [sys.executable, "-c", CONNECTED.format(options=QUICK), address]
    ended = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (ended.stdout, ended.stderr) == (f"{p2pfl.simulate(**QUICK).digest}\n", "")
    assert ray.get(ray.put(1)) == 1
    with pytest.raises(UserError, match="This program is connected to Ray, and ray_address is"):
        RayConnection(address, 0)


def test_the_ray_of_the_program_goes_on_and_the_processes_end(ray: Any) -> None:
    with opened(quick_federation(workers=1)) as engine:
        updates(engine, range(2))
        children = psutil.Process().children(recursive=True)
    assert ray.is_initialized()
    ours = [child for child in children if child.name().startswith("ray::RayTrainer")]
    assert ours
    assert psutil.wait_procs(ours, 60)[1] == []
