from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfl.cards import DataCard
from p2pfl.errors import NetworkError, TaskError, WorkerError
from p2pfl.learning import commands
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.process import Worker, WorkerSettings
from p2pfl.learning.scripts import frames
from p2pfl.learning.scripts.frames import (
    SOCKET_FILE,
    TrainerEndpoint,
    TrainerHello,
    TrainerRefused,
    TrainerRunOver,
)
from p2pfl.learning.scripts.node_link import NodeLink
from p2pfl.learning.scripts.trainer import TrainerServer, TrainerWorker
from p2pfl.learning.strategy_choice import choose_strategy
from p2pfl.messages import Evaluation
from p2pfl.work import TrainingResult
from tests.support.learning import make_spec
from tests.support.trainers import AGREEMENT, IDLE_WORKER, SPEC, evaluation, script_spec, training
from tests.support.user_tasks import MEDIAN, write_task

WAIT_SECONDS = 30.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[TrainerServer]:
    opened = TrainerServer("train")
    await opened.open(tmp_path)
    yield opened
    await opened.close("the test is over")


class Trainer:
    """A trainer that does nothing by itself."""

    def __init__(self, link: NodeLink) -> None:
        self.link = link

    @classmethod
    async def connect(cls, server: TrainerServer) -> Trainer:
        return cls(await asyncio.to_thread(NodeLink, server.endpoint))

    async def take(self) -> commands.Command | TrainerRunOver:
        return await asyncio.wait_for(asyncio.to_thread(self.link.take), WAIT_SECONDS)

    async def take_job(self) -> int:
        command = await self.take()
        assert not isinstance(command, TrainerRunOver)
        return command.id

    def finish(self, job: int, examples: int = 8) -> None:
        part = described().card
        result = TrainingResult("digest", part, examples, 0.5, 1.0)
        self.link.send(commands.TrainingDone(job, result))


def described(job: int = 0) -> commands.DescribeDone:
    return commands.DescribeDone(job, None, DataCard("train", 8, ()), 8, 10, "cpu")


def worker_of(server: TrainerServer) -> TrainerWorker:
    return TrainerWorker(Worker(IDLE_WORKER), server)


def train(server: TrainerServer, trained: int = 0) -> asyncio.Task[TrainingResult | None]:
    job = training(trained=trained)
    return asyncio.create_task(worker_of(server).train(job, Path("blobs"), Path("new")))


async def settle() -> None:
    """Let all tasks begin."""
    await asyncio.sleep(0)


async def test_a_job_waits_for_a_trainer_and_is_answered(server: TrainerServer) -> None:
    waiting = train(server)
    await settle()
    trainer = await Trainer.connect(server)
    assert trainer.link.task == "train"
    command = await trainer.take()
    assert isinstance(command, commands.RunTraining)
    assert command.job == training()
    trainer.finish(command.id)
    result = await asyncio.wait_for(waiting, WAIT_SECONDS)
    assert result is not None
    assert result.digest == "digest"
    assert server.submitted == 1
    trainer.link.close()


async def test_the_jobs_of_a_trainer_that_is_gone_are_sent_to_the_next_one(server: TrainerServer) -> None:
    waiting = train(server)
    first = await Trainer.connect(server)
    job = await first.take_job()
    first.link.close()
    second = await Trainer.connect(server)
    assert await second.take_job() == job
    second.finish(job)
    assert await asyncio.wait_for(waiting, WAIT_SECONDS) is not None
    second.link.close()


async def test_the_newest_trainer_wins(server: TrainerServer) -> None:
    waiting = train(server)
    old = await Trainer.connect(server)
    job = await old.take_job()
    new = await Trainer.connect(server)
    with pytest.raises(NetworkError, match=r"another loop of p2pfl\.rounds has begun"):
        await old.take()
    assert await new.take_job() == job
    new.finish(job)
    assert await asyncio.wait_for(waiting, WAIT_SECONDS) is not None
    old.link.close()
    new.link.close()


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (TrainerHello("wrong", frames.FRAMES_VERSION, "x"), "does not know this program"),
        (None, "different versions of p2pfl"),
        (commands.JobStopped(1), "does not know this program"),
    ],
)
async def test_strangers_and_other_versions_are_refused(
    server: TrainerServer, hello: frames.FromTrainer | None, reason: str
) -> None:
    first = hello or TrainerHello(server.endpoint.token, frames.FRAMES_VERSION + 1, "x")
    reader, writer = await asyncio.open_unix_connection(server.endpoint.path)
    writer.write(frames.encode(first))
    answer = await asyncio.wait_for(reader.read(), WAIT_SECONDS)
    refused = frames.decode_from_node(answer[4:])
    assert isinstance(refused, TrainerRefused)
    assert reason in refused.reason
    writer.close()
    assert server.connected == 0


async def test_a_frame_that_is_too_long_ends_the_connection_before_it_is_read(server: TrainerServer) -> None:
    reader, writer = await asyncio.open_unix_connection(server.endpoint.path)
    writer.write((commands.MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
    assert await asyncio.wait_for(reader.read(), WAIT_SECONDS) == b""
    writer.close()


async def test_only_the_user_of_the_node_may_open_its_socket(server: TrainerServer, tmp_path: Path) -> None:
    path = server.endpoint.path
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116 - no event loop waits for it
    await server.close("over")
    assert SOCKET_FILE not in await asyncio.to_thread(os.listdir, tmp_path)


async def test_a_path_too_long_for_a_socket_is_replaced_by_a_port(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    server = TrainerServer("train", token="secret")
    await server.open(folder)
    assert server.endpoint == TrainerEndpoint("secret", port=server.endpoint.port)
    trainer = await Trainer.connect(server)
    assert trainer.link.task == "train"
    trainer.link.close()
    await server.close("over")


async def test_a_stopped_training_gives_no_update_and_the_trainer_knows(server: TrainerServer) -> None:
    waiting = train(server)
    trainer = await Trainer.connect(server)
    job = await trainer.take_job()
    assert not trainer.link.is_stopped(job)
    server.stop_training()
    while not await asyncio.to_thread(trainer.link.is_stopped, job):
        await settle()
    trainer.finish(job)  # the loop had ended before it saw the stop
    assert await asyncio.wait_for(waiting, WAIT_SECONDS) is None
    trainer.link.close()


async def test_a_training_that_is_stopped_without_a_trainer_ends_at_once(server: TrainerServer) -> None:
    waiting = train(server)
    await settle()
    server.stop_training()
    assert await asyncio.wait_for(waiting, WAIT_SECONDS) is None


async def test_a_stopped_training_is_not_sent_to_the_next_trainer(server: TrainerServer) -> None:
    stopped = train(server)
    trainer = await Trainer.connect(server)
    await trainer.take_job()
    server.stop_training()
    waiting = train(server, trained=1)
    trainer.link.close()
    assert await asyncio.wait_for(stopped, WAIT_SECONDS) is None
    second = await Trainer.connect(server)
    command = await second.take()
    assert isinstance(command, commands.RunTraining)
    assert command.job.trained == 1
    second.finish(command.id)
    assert await asyncio.wait_for(waiting, WAIT_SECONDS) is not None
    second.link.close()


async def test_progress_reaches_the_caller(server: TrainerServer) -> None:
    heard: asyncio.Queue[commands.TrainJobProgress] = asyncio.Queue()
    work = worker_of(server).train(training(), Path("blobs"), Path("new"), heard.put_nowait)
    waiting = asyncio.create_task(work)
    trainer = await Trainer.connect(server)
    job = await trainer.take_job()
    trainer.link.send(commands.TrainJobProgress(job, 1, 4, 8.0))
    assert (await asyncio.wait_for(heard.get(), WAIT_SECONDS)).predicted == 8.0
    trainer.finish(job)
    await asyncio.wait_for(waiting, WAIT_SECONDS)
    trainer.link.close()


async def test_the_job_under_way_fails_with_the_reason_of_a_crash(server: TrainerServer) -> None:
    first, second = train(server), train(server, trained=1)
    trainer = await Trainer.connect(server)
    await trainer.take_job()
    server.drop()
    assert server.fail_interrupted("train.py, line 3: ValueError: bad", or_first=False)
    with pytest.raises(TaskError, match="line 3"):
        await first
    assert not second.done()
    assert not server.fail_interrupted("again", or_first=False)
    assert server.fail_interrupted("it never began", or_first=True)
    with pytest.raises(TaskError, match="never began"):
        await second
    trainer.link.close()


async def test_a_refusal_fails_all_jobs_now_and_later_and_turns_trainers_away(server: TrainerServer) -> None:
    waiting = train(server)
    await settle()
    server.refuse("it failed three times")
    for task in (waiting, train(server)):
        with pytest.raises(TaskError, match="three times"):
            await task
    with pytest.raises(NetworkError, match="three times"):
        await Trainer.connect(server)


async def test_the_end_of_the_run_is_told_to_whoever_comes(server: TrainerServer) -> None:
    trainer = await Trainer.connect(server)
    server.end_run("/blobs/model")
    assert await trainer.take() == TrainerRunOver("/blobs/model")
    late = await Trainer.connect(server)
    assert await late.take() == TrainerRunOver("/blobs/model")
    with pytest.raises(TaskError, match="ended with its run"):
        await train(server)
    trainer.link.close()
    late.link.close()


async def test_the_end_of_the_node_is_told_with_its_reason(server: TrainerServer) -> None:
    waiting = train(server)
    trainer = await Trainer.connect(server)
    await trainer.take_job()
    await server.close("the node has ended")
    with pytest.raises(WorkerError, match="the node has ended"):
        await waiting
    with pytest.raises(NetworkError, match="trains no more: the node has ended"):
        await trainer.take()
    trainer.link.close()


async def test_users_learn_that_work_waits_for_the_next_loop(tmp_path: Path) -> None:
    notices: list[str] = []
    server = TrainerServer("train", on_notice=notices.append)
    await server.open(tmp_path)
    first = await Trainer.connect(server)
    assert notices == []
    first.link.close()
    server.drop()
    waiting = train(server)
    await settle()
    assert notices == ["work waits for the next loop of p2pfl.rounds"]
    second = await Trainer.connect(server)
    assert "trains here now" in notices[1]
    second.finish(await second.take_job())
    await asyncio.wait_for(waiting, WAIT_SECONDS)
    second.link.close()
    await server.close("over")


async def test_describing_creating_and_evaluating_are_the_trainers_work(
    server: TrainerServer, tmp_path: Path
) -> None:
    worker = TrainerWorker(Worker(IDLE_WORKER), server)
    trainer = await Trainer.connect(server)
    describing = asyncio.create_task(worker.describe(SPEC))
    trainer.link.send(described(await trainer.take_job()))
    assert (await describing).card.examples == 8
    assert worker.pid is not None, "the worker loads torch meanwhile"
    evaluating = asyncio.create_task(worker.evaluate(evaluation(), tmp_path))
    trainer.link.send(commands.EvaluationDone(await trainer.take_job(), Evaluation(2, {"loss": 1.0})))
    assert (await evaluating).examples == 2
    creating = asyncio.create_task(worker.create(SPEC, AGREEMENT, tmp_path / "new"))
    trainer.link.send(commands.JobFailed(await trainer.take_job(), "no room", "internal"))
    with pytest.raises(WorkerError, match="no room"):
        await creating
    trainer.link.close()
    await worker.close()


async def test_the_source_of_an_own_strategy_is_told_by_the_worker_which_aggregates(
    server: TrainerServer, tmp_path: Path
) -> None:
    path = write_task(tmp_path, MEDIAN)
    choice = choose_strategy(f"{path}:Median")
    worker = Worker(WorkerSettings(device="cpu", threads=1, places=DataPlaces(strategy=choice.code)))
    trainer = await Trainer.connect(server)
    describing = asyncio.create_task(TrainerWorker(worker, server).describe(script_spec(**choice.options)))
    trainer.link.send(described(await trainer.take_job()))
    other = choose_strategy(f"{write_task(tmp_path, MEDIAN, 'other.py')}:Median")
    try:
        assert len((await describing).card.strategy_source) == 16
        with pytest.raises(TaskError, match=r"started with mine\.py:Median; use the same --strategy"):
            await worker.check_strategy(script_spec(**other.options))
    finally:
        trainer.link.close()
        await worker.close()


async def test_runs_of_other_tasks_and_runs_that_ask_too_much_are_declined(server: TrainerServer) -> None:
    with pytest.raises(TaskError, match="this device trains with a script"):
        await worker_of(server).describe(make_spec())
    discreet = TrainerWorker(Worker(), server, "counts")
    with pytest.raises(TaskError, match="--share counts"):
        await discreet.describe(script_spec(share="labels"))
