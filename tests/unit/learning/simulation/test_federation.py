from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import nn

import p2pfl
from p2pfl.errors import TaskError, UserError
from p2pfl.experiment.options import make_run
from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.simulation.federation import SimulatedFederation, open_federation
from tests.support.pictures import write_noise
from tests.support.simulated import quick_federation, quick_run, table_run
from tests.support.tables import write_table
from tests.support.user_tasks import write_task

PEOPLE = [
    (index % 3, "abc"[index % 3], 1.5 * (index % 4), "yes" if index % 2 else "no") for index in range(60)
]
HEADER = ["who", "town", "size", "target"]


def rows_of(federation: SimulatedFederation, client: int) -> list[int]:
    part = federation.prepared.train_part(client)
    assert isinstance(part, TensorBatches)
    return part.rows.tolist()


def test_a_public_data_set_is_divided_as_among_nodes() -> None:
    federation = quick_federation(clients=5, partition="dirichlet:0.5")
    parts = [rows_of(federation, client) for client in range(5)]
    assert sorted(chain.from_iterable(parts)) == list(range(1437))
    assert federation.test_examples == 360
    assert [federation.prepared.part_card(client).examples for client in range(5)] == list(map(len, parts))


def test_a_table_is_divided_among_clients(tmp_path: Path) -> None:
    table = write_table(tmp_path / "people.csv", HEADER, PEOPLE)
    federation = open_federation(table_run(table, partition="shards:1", clients=3))
    parts = [rows_of(federation, client) for client in range(3)]
    assert [len(part) for part in parts] == [18, 18, 18]
    assert len({*chain.from_iterable(parts)}) == 54
    assert federation.prepared.part_card(1).examples == 18


@pytest.mark.parametrize("column", ["who", "town"])
def test_the_rows_of_a_table_go_to_their_owners(tmp_path: Path, column: str) -> None:
    table = write_table(tmp_path / "people.csv", HEADER, PEOPLE)
    federation = open_federation(table_run(table, partition=f"natural:{column}", clients=3))
    parts = [federation.prepared.train_part(client) for client in range(3)]
    owners = [{*torch.cat([batch[0] for batch in part.ordered(100)])[:, 0].tolist()} for part in parts]
    assert [len(owner) for owner in owners] == [1, 1, 1], "the first input is the number of the owner"
    assert sum(part.examples for part in parts) == 54
    with pytest.raises(TaskError, match=f"'{column}' names 3 owners, too few for 4"):
        open_federation(table_run(table, partition=f"natural:{column}", clients=4))


OWNED = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

def model():
    return nn.Linear(3, 2)

def data():
    examples = TensorDataset(torch.arange(60.0).repeat(3, 1).T, torch.arange(60) % 2)
    examples.writers = [index % 3 for index in range(60)]
    return examples
"""


def test_the_examples_of_a_task_file_go_to_their_owners(tmp_path: Path) -> None:
    file = tmp_path / "letters.py"
    file.write_text(OWNED)
    federation = open_federation(
        quick_run(task=str(file), model=None, partition="natural:writers", clients=3)
    )
    parts = [federation.prepared.train_part(client) for client in range(3)]
    owners = [{*(torch.cat([batch[0] for batch in part.ordered(100)])[:, 0] % 3).tolist()} for part in parts]
    assert sorted(map(list, owners)) == [[0.0], [1.0], [2.0]]
    run = quick_run(task=str(file), model=None, partition="natural:readers", clients=3)
    with pytest.raises(TaskError, match="no 'readers' that names the owner"):
        open_federation(run).prepared.train_part(0)


def test_pictures_are_divided_among_clients(tmp_path: Path) -> None:
    write_noise(tmp_path / "photos", a=12, b=12)
    run = quick_run(task=None, model="lenet", data=tmp_path / "photos", partition="labels:1", clients=2)
    federation = open_federation(run)
    labels = [federation.prepared.train_part(client).labels for client in range(2)]
    assert [label is not None and len({*label.tolist()}) for label in labels] == [1, 1]


def model() -> nn.Module:
    return nn.Linear(3, 2)


def data() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(40, 3, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 2


def test_a_task_may_be_an_object() -> None:
    run = make_run({"clients": 4, "partition": "iid", "device": "cpu"}, is_object=True)
    federation = open_federation(run, p2pfl.Task(model=model, data=data))
    assert federation.agreement.classes == ("0", "1")
    assert [federation.prepared.part_card(client).examples for client in range(4)] == [9, 9, 9, 9]


OWN_LOOP = """
import torch
from torch import nn
def model(): return nn.Linear(3, 2)
def data(): return torch.randn(40, 3), torch.arange(40) % 2
def train(model, loader, settings): pass
"""


def test_an_attack_on_data_needs_the_loop_of_p2pfl(tmp_path: Path) -> None:
    options = {"task": write_task(tmp_path, OWN_LOOP), "model": None, "attackers": 1}
    open_federation(quick_run(**options, attack="sign-flip"))
    with pytest.raises(TaskError, match=r"'label-flip' changes training data, .* or remove train"):
        open_federation(quick_run(**options, attack="label-flip"))
    with pytest.raises(TaskError, match="scaffold changes local training"):
        open_federation(quick_run(**options, attack="sign-flip", strategy="scaffold"))


def test_clients_with_models_of_their_own_need_a_held_out_example_each() -> None:
    with pytest.raises(UserError, match="There are 360 held-out examples, too few for 361 clients"):
        quick_federation(strategy="ditto", clients=361)


def test_a_client_of_a_table_judges_its_own_model_on_its_own_classes(tmp_path: Path) -> None:
    table = write_table(tmp_path / "people.csv", HEADER, PEOPLE)
    federation = open_federation(table_run(table, partition="labels:1", clients=2, personal=["*.bias"]))
    prepared = federation.prepared
    assert prepared.own_test_part is not None
    for client in range(2):
        job = federation.evaluation_of(client, 1)
        labels = prepared.own_test_part(job.part, job.parts, job.partition).labels
        own = prepared.train_part(client).labels
        assert labels is not None
        assert own is not None
        assert {*labels.tolist()} == {*own.tolist()}
    assert prepared.test_part(0, 1).examples == 6


ALONE = """
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset
def data(): return TensorDataset(torch.rand(40, 3), torch.arange(40) % 2)
"""

LISTED = """
class Listed(Dataset):
    def __len__(self): return 40
    def __getitem__(self, index): return torch.rand(3), index % 2
def data(): return Listed()
"""


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def model(): return nn.Sequential(nn.Linear(3, 2), nn.Dropout())", "a layer Dropout, whose random"),
        ("def model(): return nn.Linear(3, 2)\ndef train(model, loader, settings): ...", "a training loop"),
        (
            "def model(): return nn.Linear(3, 2)\n"
            "def optimizer(parameters, settings): return torch.optim.SGD(parameters, 0.1)",
            "an optimizer of its own",
        ),
        (f"def model(): return nn.Linear(3, 2)\n{LISTED}", "the examples are not tensors in memory"),
    ],
)
def test_what_cannot_be_trained_at_once_is_refused(tmp_path: Path, source: str, why: str) -> None:
    task = write_task(tmp_path, f"{ALONE}\n{source}")
    open_federation(quick_run(task=task, model=None))
    with pytest.raises(TaskError, match=rf"vectorised cannot be used here: .*{why}.*; leave it out\."):
        open_federation(quick_run(task=task, model=None, vectorised=True))
