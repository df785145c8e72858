from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import pytest

from p2pfl.errors import TaskError, WorkerError
from p2pfl.learning import commands
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.process import Worker, WorkerSettings
from p2pfl.spec import RunSpec
from p2pfl.work import AggregatedModel, AggregationJob, EvaluationJob, TrainingJob, WeightedUpdate
from tests.support.core import ballot
from tests.support.learning import SPEC, make_spec
from tests.support.records import AGREEMENT

WAIT_SECONDS = 60.0
"""For a worker that loads torch on a busy machine; only a failing test waits this long."""

LONG = make_spec(epochs=10**6)
"""A training nobody waits for."""

STAND_IN = """
import sys, threading
from p2pfl.learning import commands
source, sink = sys.stdin.buffer, sys.stdout.buffer
def take():
    length = int.from_bytes(source.read(4), "big")
    return commands.decode_command(source.read(length)) if length else sys.exit(0)
def hang():
    threading.Event().wait()
def give(answer):
    sink.write(commands.encode(answer))
    sink.flush()
"""
"""How a worker of a few lines begins, which needs no torch."""


def _stand_in(*lines: str, **settings: float) -> WorkerSettings:
    return WorkerSettings(program=(sys.executable, "-c", STAND_IN + "\n".join(lines)), **settings)  # type: ignore[arg-type]


EVALUATED = (
    "from p2pfl.messages import Evaluation; "
    "give(commands.EvaluationDone(take().id, Evaluation(2, {'loss': 0.5})))"
)


async def create(worker: Worker, folder: Path) -> str:
    """Have the initial model made in *folder*, named by its digest; return that."""
    digest = (await worker.create(SPEC, AGREEMENT, folder / "new")).digest
    (folder / "new").rename(folder / digest)
    return digest


def training(model: str, partition: int = 0, spec: RunSpec = SPEC) -> TrainingJob:
    return TrainingJob("run", 1, spec, AGREEMENT, model, partition)


def evaluation(model: str) -> EvaluationJob:
    return EvaluationJob("run", 1, SPEC, AGREEMENT, model, 0, 1)


def job_of(*updates: WeightedUpdate) -> AggregationJob:
    return AggregationJob("run", 1, ballot(1, "ada"), SPEC, "m", updates)


class Deaths:
    """Waits for `on_death`."""

    def __init__(self) -> None:
        self.reasons: asyncio.Queue[str] = asyncio.Queue()

    async def next(self) -> str:
        return await asyncio.wait_for(self.reasons.get(), WAIT_SECONDS)


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Worker]:
    worker = Worker(WorkerSettings(device="cpu", threads=1))
    yield worker
    await worker.close()


async def test_the_real_worker_does_all_jobs_of_a_round(real: Worker, tmp_path: Path) -> None:
    described = await real.describe(SPEC)
    digest = await create(real, tmp_path)
    trained = [
        await real.train(training(digest, index), tmp_path, tmp_path / f"u{index}") for index in range(2)
    ]
    updates = [
        WeightedUpdate(f"u{index}", update.part.examples)
        for index, update in enumerate(trained)
        if update is not None
    ]
    assert len(updates) == 2
    average = await real.aggregate(job_of(*updates), tmp_path, tmp_path / "mean")
    assert isinstance(average, AggregatedModel)
    (tmp_path / "mean").rename(tmp_path / average.digest)
    evaluated = await real.evaluate(evaluation(average.digest), tmp_path)
    assert described.card.examples == 1437
    assert average.digest != digest
    assert evaluated.examples == 360


async def test_a_stopped_training_returns_none_and_the_next_job_is_done(real: Worker, tmp_path: Path) -> None:
    model = await create(real, tmp_path)
    begun, long = asyncio.Event(), training(model, spec=LONG)
    first = asyncio.create_task(real.train(long, tmp_path, tmp_path / "u", lambda progress: begun.set()))
    queued = asyncio.create_task(real.train(training(model, 1, LONG), tmp_path, tmp_path / "v"))
    await asyncio.wait_for(begun.wait(), WAIT_SECONDS)
    real.stop_training()
    assert await asyncio.wait_for(first, WAIT_SECONDS) is None
    assert await asyncio.wait_for(queued, WAIT_SECONDS) is None
    assert (await real.evaluate(evaluation(model), tmp_path)).examples == 360


async def test_closing_ends_a_training_at_once(real: Worker, tmp_path: Path) -> None:
    long = training(await create(real, tmp_path), spec=LONG)
    begun = asyncio.Event()
    first = asyncio.create_task(real.train(long, tmp_path, tmp_path / "u", lambda progress: begun.set()))
    await asyncio.wait_for(begun.wait(), WAIT_SECONDS)
    await real.close()
    with pytest.raises(WorkerError, match="it was closed"):
        await first
    assert real.pid is None


async def test_a_task_error_is_the_users_and_the_worker_lives(real: Worker, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no model 'x'"):
        await real.describe(make_spec(model="x"))
    with pytest.raises(WorkerError, match="cannot be opened"):
        await real.evaluate(evaluation("none"), tmp_path)
    assert (await real.describe(SPEC)).test_examples == 360


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
async def test_ctrl_c_in_the_nodes_terminal_does_not_reach_the_worker(real: Worker) -> None:
    await real.describe(SPEC)
    assert real.pid is not None
    assert os.getpgid(real.pid) != os.getpgid(0)
    os.kill(real.pid, signal.SIGINT)
    assert (await real.describe(SPEC)).test_examples == 360


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_worker_ends_when_its_node_is_killed(tmp_path: Path) -> None:
    code = f"""
import asyncio
from pathlib import Path
from p2pfl.learning.process import Worker, WorkerSettings
from p2pfl.work import TrainingJob
from tests.support.learning import SPEC, make_spec
from tests.support.records import AGREEMENT
async def main():
    worker = Worker(WorkerSettings(device="cpu", threads=1))
    folder = Path({str(tmp_path)!r})
    digest = (await worker.create(SPEC, AGREEMENT, folder / "m")).digest
    (folder / "m").rename(folder / digest)
    say = lambda progress: print(worker.pid, flush=True)
    job = TrainingJob("run", 1, make_spec(epochs=10**6), AGREEMENT, digest, 0)
    await worker.train(job, folder, folder / "u", say)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        worker = psutil.Process(int(node.stdout.readline()))
        node.kill()
        _, alive = psutil.wait_procs([worker], timeout=WAIT_SECONDS)
    assert not alive


async def test_what_the_worker_prints_is_logged_and_harmless(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = (
        "import sys, threading; from p2pfl.learning import jobs, worker\n"
        "class Loud(jobs.Jobs):\n"
        "    def do(self, *arguments):\n"
        "        print('a print', flush=True); sys.stderr.write('x' * 3000 + chr(10))\n"
        "        return super().do(*arguments)\n"
        "jobs.Jobs = Loud\n"
        "worker.main()"
    )
    worker = Worker(WorkerSettings(device="cpu", threads=1, program=(sys.executable, "-c", code)))
    with caplog.at_level(logging.INFO, "p2pfl.worker"):
        assert (await worker.describe(SPEC)).test_examples == 360
        await worker.close()
    messages = [record.getMessage() for record in caplog.records if record.name == "p2pfl.worker"]
    assert messages[0] == "a print"
    assert "".join(messages[1:]) == "x" * 3000


async def test_a_crash_fails_the_jobs_says_why_and_the_next_job_starts_another() -> None:
    deaths = Deaths()
    settings = _stand_in("take()", "sys.exit('the last straw')")
    worker = Worker(settings, on_death=deaths.reasons.put_nowait)
    first, second = await asyncio.gather(worker.describe(SPEC), worker.describe(SPEC), return_exceptions=True)
    assert isinstance(first, WorkerError)
    assert str(first) == str(second) == await deaths.next()
    assert str(first) == "The worker process ended with exit code 1; its last output: the last straw."
    assert worker.pid is None
    with pytest.raises(WorkerError, match="last straw"):
        await worker.describe(SPEC)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
async def test_a_killed_worker_is_noticed_without_a_job() -> None:
    deaths = Deaths()
    worker = Worker(_stand_in("take()"), on_death=deaths.reasons.put_nowait)
    await worker.start()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    assert "was killed by SIGKILL (does the device have too little memory?)" in await deaths.next()


async def test_a_silent_worker_is_killed() -> None:
    deaths = Deaths()
    settings = _stand_in("hang()", silence_seconds=0.3)
    worker = Worker(settings, on_death=deaths.reasons.put_nowait)
    with pytest.raises(WorkerError, match=r"sent nothing for 0\.3 s"):
        await worker.describe(SPEC)
    assert "sent nothing" in await deaths.next()


HANGS = {"silence_seconds": 3.0, "hang_factor": 2.0, "hang_seconds": 0.2}
"""A worker is looked at every 250 ms. The stand-ins below beat: they are not silent, on a busy machine either."""

BEATS = """
def beat():
    while True:
        give(commands.WorkerHeartbeat())
        threading.Event().wait(0.02)
threading.Thread(target=beat, daemon=True).start()
"""


async def test_a_training_that_gets_nowhere_far_beyond_its_own_prediction_is_ended() -> None:
    deaths = Deaths()
    settings = _stand_in(BEATS, "give(commands.TrainJobProgress(take().id, 1, 9, 0.1))", "hang()", **HANGS)
    worker = Worker(settings, on_death=deaths.reasons.put_nowait)
    with pytest.raises(WorkerError, match=r"its job \(train\) made no progress"):
        await asyncio.wait_for(worker.train(training("m"), Path("/"), Path("/u")), WAIT_SECONDS)
    assert "made no progress" in await deaths.next()


async def test_an_evaluation_that_takes_far_longer_than_the_last_one_is_ended() -> None:
    settings = _stand_in(BEATS, EVALUATED, "hang()", **HANGS)
    worker = Worker(settings)
    await worker.evaluate(evaluation("m"), Path("/"))
    with pytest.raises(WorkerError, match=r"its job \(evaluate\) made no progress"):
        await asyncio.wait_for(worker.evaluate(evaluation("m"), Path("/")), WAIT_SECONDS)


async def test_an_aggregation_that_takes_far_longer_than_the_last_one_is_ended() -> None:
    settings = _stand_in(
        "from p2pfl.work import NotFinite",
        BEATS,
        "give(commands.AggregationDone(take().id, NotFinite()))",
        "hang()",
        **HANGS,
    )
    worker, job = Worker(settings), job_of(WeightedUpdate("u", 1))
    await worker.aggregate(job, Path("/"), Path("/m"))
    with pytest.raises(WorkerError, match=r"its job \(aggregate\) made no progress"):
        await asyncio.wait_for(worker.aggregate(job, Path("/"), Path("/m")), WAIT_SECONDS)


async def test_beats_are_signs_of_life_and_nothing_else() -> None:
    settings = _stand_in(
        "command = take()",
        "give(commands.WorkerHeartbeat())",
        "give(commands.CreateDone(command.id, 'd', ()))",
        "take()",
    )
    worker = Worker(settings)
    await worker.create(SPEC, AGREEMENT, Path("/m"))
    assert worker.pid is not None
    await worker.close()


@pytest.mark.parametrize("line", ["sink.write(b'\\0\\0\\0\\1\\xc1')", "sink.write(b'\\xff' * 4)"])
async def test_a_worker_that_speaks_nonsense_is_killed(line: str) -> None:
    worker = Worker(_stand_in(line, "sink.flush()", "hang()"))
    with pytest.raises(WorkerError, match="was ended"):
        await worker.describe(SPEC)


async def test_a_worker_that_does_not_exit_is_killed() -> None:
    worker = Worker(_stand_in("hang()", exit_seconds=0.1))
    await worker.start()
    await worker.close()
    assert worker.pid is None


async def test_an_answer_of_the_wrong_kind_is_refused() -> None:
    worker = Worker(_stand_in("give(commands.CreateDone(take().id, 'd', ()))", "take()"))
    with pytest.raises(WorkerError, match="CreateDone where DescribeDone was expected"):
        await worker.describe(SPEC)
    await worker.close()


async def test_answers_find_their_jobs_in_any_order() -> None:
    settings = _stand_in(
        "jobs = [take(), take()]",
        "for job in reversed(jobs): give(commands.CreateDone(job.id, job.path, ()))",
        "take()",
    )
    worker = Worker(settings)
    digests = await asyncio.gather(
        worker.create(SPEC, AGREEMENT, Path("a")), worker.create(SPEC, AGREEMENT, Path("b"))
    )
    assert [one.digest for one in digests] == ["a", "b"]
    await worker.close()


async def test_progress_reaches_the_job_that_made_it() -> None:
    settings = _stand_in(
        "from p2pfl.cards import DataCard",
        "from p2pfl.work import TrainingResult",
        "job = take()",
        "give(commands.TrainJobProgress(job.id + 1, 9, 9, 9.0))",
        "give(commands.TrainJobProgress(job.id, 1, 2, 0.5))",
        "give(commands.TrainingDone(job.id, TrainingResult('d', DataCard('digits', 1, ()), 1, 0.0, 0.1)))",
        "take()",
    )
    worker = Worker(settings)
    seen: list[commands.TrainJobProgress] = []
    await worker.train(training("m"), Path("/"), Path("/u"), seen.append)
    assert seen == [commands.TrainJobProgress(1, 1, 2, 0.5)]
    await worker.close()


async def test_cancelling_a_training_stops_it() -> None:
    settings = _stand_in(
        "job = take()",
        "give(commands.TrainJobProgress(job.id, 1, 2, 0.5))",
        "assert take() == commands.StopJob(job.id)",
        "give(commands.JobStopped(job.id))",
        "give(commands.CreateDone(take().id, 'd', ()))",
        "take()",
    )
    worker, begun = Worker(settings), asyncio.Event()
    running = asyncio.create_task(
        worker.train(training("m"), Path("/"), Path("/u"), lambda progress: begun.set())
    )
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await worker.create(SPEC, AGREEMENT, Path("m"))).digest == "d"
    await worker.close()


async def test_a_program_that_is_missing_is_said() -> None:
    worker = Worker(WorkerSettings(program=("/no/such/program",)))
    with pytest.raises(WorkerError, match="cannot be started"):
        await worker.start()


async def test_closing_a_worker_that_never_started_does_nothing() -> None:
    worker = Worker()
    await worker.close()
    assert worker.pid is None


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (DataPlaces(), ""),
        (
            DataPlaces(Path("/d"), download=True),
            f" --places={DataPlaces(Path('/d'), download=True).to_text()}",
        ),
    ],
)
async def test_the_worker_is_told_where_data_are(places: DataPlaces, said: str) -> None:
    settings = _stand_in("give(commands.CreateDone(take().id, ' '.join(sys.argv[1:]), ()))", "take()")
    worker = Worker(msgspec.structs.replace(settings, places=places))
    assert (await worker.create(SPEC, AGREEMENT, Path("m"))).digest == f"--device auto --threads 0{said}"
    await worker.close()


@pytest.mark.parametrize(
    ("variable", "ours", "users"),
    [("OMP_WAIT_POLICY", "PASSIVE", "ACTIVE"), ("THP_MEM_ALLOC_ENABLE", "1", "0")],
)
@pytest.mark.parametrize("is_set", [False, True])
async def test_torch_in_the_worker_is_set_up_for_us_unless_the_user_wants_it_otherwise(
    variable: str, ours: str, users: str, *, is_set: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable, raising=False)
    if is_set:
        monkeypatch.setenv(variable, users)
    say = f"give(commands.CreateDone(take().id, os.environ['{variable}'], ()))"
    worker = Worker(_stand_in("import os", say, "take()"))
    assert (await worker.create(SPEC, AGREEMENT, Path("m"))).digest == (users if is_set else ours)
    await worker.close()


async def test_the_real_worker_looks_where_it_is_told(tmp_path: Path) -> None:
    worker = Worker(WorkerSettings(device="cpu", places=DataPlaces(tmp_path / "none")))
    with pytest.raises(TaskError, match=f"not on this device.*{tmp_path}/none/MNIST/raw"):
        await worker.describe(make_spec(task="mnist"))
    await worker.close()
