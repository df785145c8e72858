"""Whole simulations: the same bytes as from the worker of a node, and what becomes of clients that fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import p2pfl
from p2pfl.errors import TaskError, UserError
from p2pfl.learning import commands
from p2pfl.learning.jobs import Jobs
from p2pfl.learning.simulation.blobs import BlobShelf
from p2pfl.learning.simulation.clients import ClientFailure, ClientJob, ClientResult, RoundStart
from p2pfl.learning.simulation.federation import SimulatedFederation, open_federation
from p2pfl.learning.simulation.local_engine import LocalEngine
from p2pfl.learning.simulation.rounds import Simulation, choose_clients
from p2pfl.learning.simulation.simulated import SimulatedRound
from p2pfl.messages import add_evaluations
from p2pfl.spec import adapts_to_devices, is_particular, partitions_of
from p2pfl.strategy_specs import state_slots
from p2pfl.work import AggregatedModel, AggregationJob, EvaluationJob, TrainingJob, WeightedUpdate
from tests.support.core import ballot
from tests.support.simulated import quick_federation, quick_run, table_run
from tests.support.tables import write_table
from tests.support.user_tasks import write_task


def simulated(federation: SimulatedFederation | None = None, **options: Any) -> list[SimulatedRound]:
    with closing(Simulation(federation or quick_federation(**options))) as simulation:
        return list(simulation.rounds())


class Worker:
    """The worker of all nodes of a run, in this process: each node has its own folder for what it remembers."""

    def __init__(self, folder: Path, federation: SimulatedFederation) -> None:
        self.folder, self.federation, self.spec = folder, federation, federation.run.spec
        self.jobs = Jobs("cpu", threads=1)

    def do(self, command: commands.Command) -> Any:
        return self.jobs.do(command, lambda _: None, lambda: False)

    def named(self, new: str, digest: str) -> str:
        """Give the file *new* its digest for a name, in the folders of all nodes."""
        if digest:
            (self.folder / "blobs" / new).rename(self.folder / "blobs" / digest)
        return digest

    def evaluated(self, number: int, model: str, last: Mapping[int, str]) -> dict[str, float]:
        """Return the metrics of the model of round *number* over all nodes, as their histories show them."""
        evaluations = []
        for node, memory in last.items():
            job = EvaluationJob(
                f"run of {node}", number, self.spec, self.federation.agreement, model, node, len(last), memory, node
            )  # fmt: skip
            evaluations.append(self.do(commands.RunEvaluation(4, job, str(self.folder / "blobs"))).result)
        return add_evaluations(evaluations).metrics

    def rounds(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield the digest of the model of each round, and its metrics where nodes have models of their own."""
        blobs, spec, agreement = self.folder / "blobs", self.spec, self.federation.agreement
        blobs.mkdir()
        created = self.do(commands.CreateJob(1, spec, agreement, str(blobs / "new")))
        model, state, last = (
            self.named("new", created.digest),
            "",
            dict.fromkeys(range(partitions_of(spec.task)), ""),
        )
        for number in range(1, spec.rounds + 1):
            updates = []
            for node in last:
                job = TrainingJob(
                    f"run of {node}", number, spec, agreement, model, node, number - 1, spec.rounds, state, len(last),
                    last[node],
                )  # fmt: skip
                new, control = str(blobs / "update"), str(blobs / "control")
                result = self.do(commands.RunTraining(2, job, str(blobs), new, control)).result
                last[node] = self.named("update", result.digest)
                self.named("control", result.control)
                updates.append(
                    WeightedUpdate(
                        result.digest, result.part.examples, result.steps, result.loss, result.control
                    )
                )
            averaging = AggregationJob(
                "run", number, ballot(1, "ada"), spec, model, tuple(updates), state, len(last)
            )
            command = commands.RunAggregation(
                3, averaging, str(blobs), str(blobs / "new"), str(blobs / "state")
            )
            aggregated = self.do(command).result
            assert isinstance(aggregated, AggregatedModel)
            model, state = self.named("new", aggregated.digest), self.named("state", aggregated.state)
            assert bool(state) == bool(state_slots(spec.strategy))
            yield model, self.evaluated(number, model, last) if is_particular(spec) else {}


@pytest.mark.parametrize(
    ("strategy", "args"),
    [
        ("fedavg", {}),
        ("scaffold", {}),
        ("fedadam", {"server_lr": 0.01}),
        ("feddyn", {}),
        ("centred-clipping", {}),
    ],
)
def test_a_simulation_makes_the_bytes_of_the_workers_of_nodes(
    tmp_path: Path, strategy: str, args: dict[str, Any]
) -> None:
    federation = quick_federation(
        clients=3,
        rounds=3,
        partition="dirichlet:0.5",
        strategy=strategy,
        strategy_args=args,
        schedule="cosine",
    )
    rows = simulated(federation)
    assert [row.digest for row in rows] == [digest for digest, _ in Worker(tmp_path, federation).rounds()]
    assert len({row.digest for row in rows}) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"personal": "out.*"},
        {"personalise": 1},
        {"strategy": "ditto"},
        {"strategy": "ditto", "personal": ["out.bias"]},
        {"strategy": "scaffold", "personal": ["out.*"]},
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_clients_with_models_of_their_own_are_as_nodes_are(tmp_path: Path, options: dict[str, Any]) -> None:
    federation = quick_federation(clients=3, rounds=3, partition="labels:4", **options)
    rows = simulated(federation)
    expected = list(Worker(tmp_path, federation).rounds())
    assert [(row.digest, row.metrics) for row in rows] == expected
    assert ("personal_accuracy" in rows[0].metrics) == adapts_to_devices(federation.run.spec)


def test_a_table_is_trained_by_its_clients(tmp_path: Path) -> None:
    rows = [(index % 7, index % 3, "yes" if index % 7 > 3 else "no") for index in range(200)]
    table = write_table(tmp_path / "people.csv", ["a", "b", "target"], rows)
    last = simulated(open_federation(table_run(table, rounds=10, lr=0.1, partition="quantity:1")))[-1]
    assert last.metrics["accuracy"] > 0.8


def test_rows_tell_who_trained_and_what_is_best() -> None:
    rows = simulated(rounds=4, clients=4, sample=2, evaluate_every=2, seed=1)
    assert [row.round for row in rows] == [1, 2, 3, 4]
    assert [bool(row.metrics) for row in rows] == [False, True, False, True]
    assert all(len(row.clients) == 2 and row.seconds > 0 and (row.training_loss or 0) > 0 for row in rows)
    assert rows[0].best is None
    best = max(rows[1].metrics["accuracy"], rows[3].metrics["accuracy"])
    assert rows[3].best == best
    assert [row.is_best for row in rows] == [
        False,
        True,
        False,
        rows[3].metrics["accuracy"] > rows[1].metrics["accuracy"],
    ]


def test_the_last_round_is_always_evaluated() -> None:
    assert [bool(row.metrics) for row in simulated(rounds=3, evaluate_every=10)] == [False, False, True]


def test_the_seed_draws_the_clients_of_a_round() -> None:
    run = quick_run(clients=100, sample=10)
    drawn = [choose_clients(run, number) for number in range(1, 51)]
    assert drawn == [choose_clients(run, number) for number in range(1, 51)]
    assert all(chosen == sorted({*chosen}) and len(chosen) == 10 for chosen in drawn)
    assert len({client for chosen in drawn for client in chosen}) > 95
    assert choose_clients(quick_run(clients=3), 1) == [0, 1, 2]


def test_attackers_are_named_and_a_robust_strategy_withstands_them() -> None:
    options: dict[str, Any] = {"clients": 8, "rounds": 5, "epochs": 3, "lr": 0.1}
    attack: dict[str, Any] = {"attackers": 2, "attack": "sign-flip", "attack_args": {"scale": 4}}
    clean = simulated(**options)[-1].metrics["accuracy"]
    plain = simulated(**options, **attack)[-1]
    robust = simulated(**options, **attack, strategy="multi-krum")[-1]
    assert plain.attackers == (0, 1)
    assert robust.metrics["accuracy"] > 0.9 * clean > plain.metrics["accuracy"] + 0.1


@pytest.mark.parametrize("attack", ["alie", "inner-product"])
def test_attackers_that_work_together_send_one_update(attack: str) -> None:
    row = simulated(rounds=1, clients=5, attackers=2, attack=attack)[0]
    assert (row.clients, row.attackers, row.left_out) == ((0, 1, 2, 3, 4), (0, 1), ())
    assert row.digest != simulated(rounds=1, clients=5)[0].digest


def test_a_backdoor_has_its_success_in_each_round() -> None:
    options: dict[str, Any] = {"rounds": 4, "clients": 4, "epochs": 3, "lr": 0.1}
    attack: dict[str, Any] = {"attackers": 2, "attack": "backdoor", "attack_args": {"scale": 2}}
    rows = simulated(**options, **attack)
    assert all("backdoor" in row.metrics for row in rows)
    assert rows[-1].metrics["backdoor"] > 0.5
    assert "backdoor" not in simulated(rounds=1)[0].metrics


class Losing:
    """An engine that loses the updates of some clients."""

    def __init__(self, federation: SimulatedFederation, lost: Sequence[int]) -> None:
        self._engine, self._lost = LocalEngine(federation), lost
        self.judges: list[int] = []

    def initial(self) -> bytes:
        return self._engine.initial()

    def train(self, start: RoundStart, jobs: Sequence[ClientJob], /) -> Iterator[ClientResult]:
        for result in self._engine.train(start, jobs):
            yield ClientFailure(result.client, "lost") if result.client in self._lost else result

    def evaluate(self, model: bytes, parts: int, /) -> Any:
        return self._engine.evaluate(model, parts)

    def judge(self, start: RoundStart, jobs: Sequence[ClientJob], /) -> Any:
        self.judges += [job.client for job in jobs]
        return self._engine.judge(start, jobs)

    def close(self) -> None:
        self._engine.close()


def test_a_client_that_fails_is_left_out() -> None:
    federation = quick_federation(rounds=1)
    [row] = Simulation(federation, Losing(federation, [1])).rounds()
    assert (row.clients, row.left_out, row.note) == ((0, 2, 3), ((1, "lost"),), "")


def test_all_clients_judge_their_own_models_but_those_that_attack() -> None:
    attack: dict[str, Any] = {"attackers": [1], "attack": "backdoor"}
    federation = quick_federation(rounds=1, sample=2, personal=["out.*"], **attack)
    engine = Losing(federation, [])
    [row] = Simulation(federation, engine).rounds()
    assert (len(row.clients), engine.judges) == (2, [0, 2, 3])
    assert 0 <= row.metrics["backdoor"] <= 1


def test_without_enough_updates_the_model_stays() -> None:
    federation = quick_federation(clients=3, strategy="median")
    simulation = Simulation(federation, Losing(federation, [1]))
    rows = list(simulation.rounds())
    assert [row.note for row in rows] == ["2 updates, and median needs 3"] * 2
    assert rows[0].digest == rows[1].digest


def test_a_run_stops_at_its_target_or_without_progress() -> None:
    assert len(simulated(rounds=20, until="accuracy=0.3", epochs=3, lr=0.1)) < 10
    assert len(simulated(rounds=20, patience=2, lr=1e-9)) == 3


def test_too_few_clients_for_the_strategy_are_refused() -> None:
    with pytest.raises(UserError, match="multi-krum needs at least 5 updates in a round"):
        quick_run(clients=4, strategy="multi-krum")


OWN_STRATEGY = Path(p2pfl.__file__).parent / "examples" / "own_strategy.py"


def test_a_strategy_of_ones_own_is_used(tmp_path: Path) -> None:
    federation = quick_federation(rounds=3, strategy=f"{OWN_STRATEGY}:Smooth", strategy_args={"decay": 0.0})
    rows = simulated(federation)
    assert [row.note for row in rows] == ["", "", ""]
    assert rows[0].metrics == pytest.approx(simulated(rounds=1)[0].metrics, abs=1e-3), "decay 0 is FedAvg"
    assert rows[-1].digest != simulated(strategy=f"{OWN_STRATEGY}:Smooth", rounds=3)[-1].digest


LATE = """
import p2pfl

class Late(p2pfl.Elementwise):
    def combine(self, parent, updates, weights, state):
        if len(parent) > 5000:
            raise ValueError("too large")
        return updates.matrix().mean(0), None
"""


def test_a_strategy_that_fails_is_told_by_its_line(tmp_path: Path) -> None:
    file = write_task(tmp_path, LATE, "late.py")
    row = simulated(rounds=1, strategy=f"{file}:Late")[0]
    assert row.note == "late.py, line 6, in combine(): ValueError: too large"
    wrong = write_task(tmp_path, LATE.replace("len(parent) > 5000", "True"), "wrong.py")
    with pytest.raises(TaskError, match=r"wrong\.py, line 6, in combine\(\)"):
        Simulation(quick_federation(strategy=f"{wrong}:Late"))


def test_memory_of_many_updates_is_spilled_and_the_model_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [row.digest for row in simulated(strategy="scaffold")]
    monkeypatch.setattr(BlobShelf.__init__, "__defaults__", (1000,))
    assert [row.digest for row in simulated(strategy="scaffold")] == expected
