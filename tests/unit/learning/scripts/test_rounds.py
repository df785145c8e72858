from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from p2pfl.errors import NetworkError, TaskError, UserError, WorkerError
from p2pfl.learning import commands, weights
from p2pfl.learning.process import Worker
from p2pfl.learning.scripts.frames import ENVIRONMENT_VARIABLE, TrainerEndpoint
from p2pfl.learning.scripts.rounds import rounds
from p2pfl.learning.scripts.trainer import TrainerWorker
from tests.support.learning import make_spec
from tests.support.trainers import (
    AGREEMENT,
    IDLE_WORKER,
    MEASURES,
    SPEC,
    ThreadedNode,
    evaluation,
    script_spec,
    threaded_node,
    training,
)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedNode]:
    with threaded_node(tmp_path) as opened:
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, opened.server.endpoint.to_text())
        yield opened


def worker_of(node: ThreadedNode) -> TrainerWorker:
    return TrainerWorker(Worker(IDLE_WORKER), node.server)


def judge(model: nn.Module) -> dict[str, float]:
    """Measure the first weight of the model."""
    return {"accuracy": float(next(model.parameters()).flatten()[0]), "loss": 0.5, "examples": 4}


def filled(value: float) -> nn.Linear:
    model = nn.Linear(2, 1)
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


def save(folder: Path, value: float) -> str:
    """Write a model whose weights are *value* into *folder*, named by its digest; return that."""
    digest = weights.save(folder / "new", filled(value))
    (folder / "new").rename(folder / digest)
    return digest


def test_a_loop_trains_the_weights_of_each_round_and_ends_with_the_final_ones(
    node: ThreadedNode, tmp_path: Path
) -> None:
    model, worker = filled(0.0), worker_of(node)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    trainings = [
        node.begin(
            worker.train(
                training(save(tmp_path, 10.0 * (number + 1)), trained=number),
                tmp_path,
                tmp_path / f"u{number}",
            )
        )
        for number in (0, 1)
    ]
    seen = []
    for round_ in rounds(model, metrics=judge):
        seen.append((round_.number, round_.rounds, model.weight[0, 0].item()))
        model.weight.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        round_.submit(examples=7, loss=0.25, steps=3)
        if round_.number == 2:
            node.do(node.server.end_run, str(tmp_path / save(tmp_path, 5.0)))
    assert seen == [(1, 3, 10.0), (2, 3, 20.0)]
    assert model.weight[0, 0].item() == 5.0
    for number, task in enumerate(trainings):
        result = task.result()
        assert result is not None
        assert (result.part.examples, result.steps, result.loss) == (7, 3, 0.25)
        update = nn.Linear(2, 1)
        weights.load_into(tmp_path / f"u{number}", update, result.digest)
        assert update.weight[0, 0].item() == 10.0 * (number + 1) - 1.0


def test_the_other_jobs_are_done_between_the_rounds(
    node: ThreadedNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [__file__])
    model, worker = filled(3.0), worker_of(node)
    described = node.begin(worker.describe(SPEC, AGREEMENT))
    created = node.begin(worker.create(SPEC, AGREEMENT, tmp_path / "initial"))
    evaluated = node.begin(worker.evaluate(evaluation(save(tmp_path, 0.75)), tmp_path))
    trained = node.begin(worker.train(training(save(tmp_path, 1.0)), tmp_path, tmp_path / "u"))
    for round_ in rounds(model, metrics=judge):
        round_.submit()
        break
    card = described.result().card
    assert (card.task, card.examples, card.measures, card.share) == ("train", 1, MEASURES, "labels")
    assert len(card.source) == 64
    assert described.result().schema == weights.schema_of(model)
    assert described.result().parameters == 3
    assert described.result().test_examples == 4
    initial = nn.Linear(2, 1)
    weights.load_into(tmp_path / "initial", initial, created.result().digest)
    assert initial.weight[0, 0].item() == 3.0
    assert evaluated.result().sums == {"accuracy": 3.0, "loss": 2.0}
    result = trained.result()
    assert result is not None
    assert result.part.examples == 1
    node.run(worker.close())


def test_nothing_is_told_about_the_data_of_a_run_that_shares_none(node: ThreadedNode, tmp_path: Path) -> None:
    spec, worker = script_spec(share="none"), worker_of(node)
    evaluated = node.begin(worker.evaluate(evaluation(save(tmp_path, 0.75), spec=spec), tmp_path))
    trained = node.begin(worker.train(training(save(tmp_path, 1.0), spec=spec), tmp_path, tmp_path / "u"))
    for round_ in rounds(filled(0.0), metrics=judge):
        round_.submit(examples=500)
        break
    assert evaluated.result().examples == 1
    result = trained.result()
    assert result is not None
    assert (result.part.examples, result.part.share) == (1, "none")


def test_an_interrupted_loop_leaves_the_round_to_the_next_one(node: ThreadedNode, tmp_path: Path) -> None:
    model = filled(0.0)
    trained = node.begin(worker_of(node).train(training(save(tmp_path, 2.0)), tmp_path, tmp_path / "u"))

    def interrupted() -> None:
        for _ in rounds(model, metrics=judge):
            nn.init.zeros_(model.weight)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    for round_ in rounds(model, metrics=judge):
        assert (round_.number, model.weight[0, 0].item()) == (1, 2.0)
        round_.submit()
        break
    assert trained.result() is not None
    assert node.server.connected == 2


def test_the_result_of_a_stopped_training_is_dropped(node: ThreadedNode, tmp_path: Path) -> None:
    worker = worker_of(node)
    stopped = node.begin(worker.train(training(save(tmp_path, 1.0)), tmp_path, tmp_path / "u"))
    numbers = []
    for round_ in rounds(filled(0.0), metrics=judge):
        numbers.append(round_.number)
        if round_.number == 2:
            round_.submit()
            break
        node.do(node.server.stop_training)
        job = training(save(tmp_path, 2.0), trained=1)
        trained = node.begin(worker.train(job, tmp_path, tmp_path / "v"))
        round_.submit()
    assert numbers == [1, 2]
    assert stopped.result() is None
    assert not (tmp_path / "u").exists()
    assert trained.result() is not None


def test_a_training_that_is_stopped_before_it_begins_is_no_round(node: ThreadedNode, tmp_path: Path) -> None:
    worker, numbers = worker_of(node), []
    first = node.begin(worker.train(training(save(tmp_path, 1.0)), tmp_path, tmp_path / "u"))
    second = node.begin(worker.train(training(save(tmp_path, 1.0), trained=1), tmp_path, tmp_path / "v"))
    for round_ in rounds(filled(0.0), metrics=judge):
        numbers.append(round_.number)
        if round_.number == 1:
            round_.submit()
            first.result()
            node.do(node.server.stop_training)
            node.do(node.server.end_run, "")
    assert numbers == [1]
    assert second.result() is None


def test_a_round_is_submitted_once(node: ThreadedNode, tmp_path: Path) -> None:
    node.begin(worker_of(node).train(training(save(tmp_path, 1.0)), tmp_path, tmp_path / "u"))
    for round_ in rounds(filled(0.0), metrics=judge):
        round_.submit()
        with pytest.raises(UserError, match="Round 1 was submitted before"):
            round_.submit()
        with pytest.raises(UserError, match="Round 1 was submitted before"):
            round_.progress(1, 2)
        break


def test_a_pass_of_the_loop_without_a_submit_is_an_error(node: ThreadedNode, tmp_path: Path) -> None:
    node.begin(worker_of(node).train(training(save(tmp_path, 1.0)), tmp_path, tmp_path / "u"))
    with pytest.raises(UserError, match=r"Round 1 was not submitted: call round\.submit"):
        list(rounds(filled(0.0), metrics=judge))


def test_weights_and_values_that_make_no_sense_are_refused(node: ThreadedNode, tmp_path: Path) -> None:
    model = filled(0.0)
    trained = node.begin(worker_of(node).train(training(save(tmp_path, 1.0)), tmp_path, tmp_path / "u"))
    for round_ in rounds(model, metrics=judge):
        with pytest.raises(TaskError, match="Training diverged: the loss of round 1 is nan"):
            round_.submit(loss=float("nan"))
        with pytest.raises(TaskError, match="number of examples is 0"):
            round_.submit(examples=0)
        with pytest.raises(TaskError, match="number of steps is 0"):
            round_.submit(steps=0)
        nn.init.constant_(model.bias, float("inf"))
        with pytest.raises(TaskError, match=r"diverged: 'bias' has a number that is not finite"):
            round_.submit()
        assert not (tmp_path / "u").exists()
        nn.init.zeros_(model.bias)
        round_.submit()
        break
    assert trained.result() is not None


def test_progress_and_the_time_of_the_last_round_are_reported(node: ThreadedNode, tmp_path: Path) -> None:
    worker = worker_of(node)
    heard: list[commands.TrainJobProgress] = []
    tasks = [
        node.begin(
            worker.train(
                training(save(tmp_path, 1.0), trained=number), tmp_path, tmp_path / f"u{number}", heard.append
            )
        )
        for number in (0, 1)
    ]
    for round_ in rounds(filled(0.0), metrics=judge):
        if round_.number == 1:
            round_.progress(1, 4)
            round_.progress(2, 4)  # too soon
        round_.submit()
        tasks[round_.number - 1].result()
        if round_.number == 2:
            break
    assert [(one.done, one.total) for one in heard] == [(1, 4), (0, 1)]
    assert all(one.predicted > 0 for one in heard)


def test_a_model_that_cannot_be_loaded_fails_the_job_and_not_the_loop(
    node: ThreadedNode, tmp_path: Path
) -> None:
    worker = worker_of(node)
    lost = node.begin(worker.train(training("lost"), tmp_path, tmp_path / "u"))
    unread = node.begin(worker.evaluate(evaluation("lost"), tmp_path))
    node.begin(worker.train(training(save(tmp_path, 1.0)), tmp_path, tmp_path / "v"))
    for round_ in rounds(filled(0.0), metrics=judge):
        round_.submit()
        break
    for task in (lost, unread):
        with pytest.raises(WorkerError, match="cannot be opened"):
            task.result()


def test_an_error_of_the_metrics_is_raised_in_the_loop(node: ThreadedNode, tmp_path: Path) -> None:
    node.begin(worker_of(node).evaluate(evaluation(save(tmp_path, 1.0)), tmp_path))
    calls: list[int] = []

    def fail_later(_: nn.Module) -> dict[str, float]:
        calls.append(1)
        return {"accuracy": 1 / (2 - len(calls))}

    with pytest.raises(ZeroDivisionError):
        next(iter(rounds(filled(0.0), metrics=fail_later)))


def test_a_script_without_metrics_trains_and_does_not_evaluate(node: ThreadedNode, tmp_path: Path) -> None:
    worker = worker_of(node)
    evaluated = node.begin(worker.evaluate(evaluation(save(tmp_path, 1.0)), tmp_path))
    trained = node.begin(worker.train(training(save(tmp_path, 1.0)), tmp_path, tmp_path / "u"))
    for round_ in rounds(filled(0.0)):
        round_.submit()
        break
    with pytest.raises(TaskError, match="the script measures nothing"):
        evaluated.result()
    assert trained.result() is not None


def test_a_model_that_is_not_finite_founds_no_run(node: ThreadedNode, tmp_path: Path) -> None:
    node.begin(worker_of(node).create(SPEC, AGREEMENT, tmp_path / "initial"))
    with pytest.raises(TaskError, match="'weight' before the first round"):
        next(iter(rounds(filled(float("nan")), metrics=judge)))


def test_a_run_of_another_kind_is_declined(node: ThreadedNode, tmp_path: Path) -> None:
    async def describe() -> commands.Answer:
        command = commands.DescribeJob(node.server.next_id(), make_spec())
        return await node.server.ask(command)

    answer = node.begin(describe())
    node.begin(worker_of(node).train(training(save(tmp_path, 1.0)), tmp_path, tmp_path / "u"))
    for round_ in rounds(filled(0.0), metrics=judge):
        round_.submit()
        break
    failed = answer.result()
    assert isinstance(failed, commands.JobFailed)
    assert "the run is for digits" in failed.reason


def test_without_a_node_the_loop_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    with pytest.raises(UserError, match="p2pfl node --script FILE"):
        next(iter(rounds(filled(0.0))))


class Handle:
    """A node beside the program that ends for a reason."""

    def __init__(self, endpoint: TrainerEndpoint | None, reason: str = "") -> None:
        self._endpoint = endpoint
        self._reason = reason

    def trainer(self) -> TrainerEndpoint | None:
        return self._endpoint

    def why_ended(self) -> str:
        return self._reason


def test_a_loop_after_the_end_of_the_run_has_no_rounds() -> None:
    assert list(rounds(filled(0.0), node=Handle(None))) == []
    gone = TrainerEndpoint("token", "/no/such/socket")
    assert list(rounds(filled(0.0), node=Handle(gone))) == []


def test_a_node_beside_the_program_says_why_it_ended() -> None:
    gone = TrainerEndpoint("token", "/no/such/socket")
    with pytest.raises(NetworkError, match=r"The node has ended: the disk is full\."):
        list(rounds(filled(0.0), node=Handle(gone, "The node has ended: the disk is full.")))


def test_a_final_model_that_is_lost_is_an_error(node: ThreadedNode, tmp_path: Path) -> None:
    node.do(node.server.end_run, str(tmp_path / "lost"))
    with pytest.raises(NetworkError, match="final model of the run cannot be loaded"):
        list(rounds(filled(0.0), metrics=judge))


def test_personal_tensors_of_a_loop_stay_on_the_device_and_are_remembered(
    node: ThreadedNode, tmp_path: Path
) -> None:
    spec, worker, folder = script_spec(personal=("bias",)), worker_of(node), tmp_path / "blobs"
    folder.mkdir()
    parent = weights.save(folder / "new", filled(1.0), ("bias",))
    (folder / "new").rename(folder / parent)

    def trained(value: float, memory: str) -> tuple[float, str]:
        """Train in a new loop; return the bias that it began with, and the update."""
        job = msgspec.structs.replace(training(parent, spec=spec), memory=memory)
        task = node.begin(worker.train(job, folder, folder / "u"))
        model = filled(value)
        for round_ in rounds(model, metrics=judge):
            began = model.bias.item()
            with torch.no_grad():
                model.bias.add_(1)
            round_.submit()
            break
        result = task.result()
        assert result is not None
        assert set(load_file(folder / "u")) == {"weight"}
        return began, result.digest

    assert trained(5.0, "")[0] == 5.0
    began, update = trained(7.0, "")
    assert began == 7.0
    assert trained(0.0, update)[0] == 8.0
    node.run(worker.close())
