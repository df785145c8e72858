"""A blob is pulled or found here, checked once, and pulled again where its bytes are damaged."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import Aggregate, Companion, Evaluate, Fetch, ReadSchema, Train
from p2pfl.errors import BlobError, DataDirectoryError, NetworkError, OutOfFilesError, TaskError, WorkerError
from p2pfl.learning.local_files import frozen_file
from p2pfl.net.bulk.request import PullRequest
from p2pfl.runtime.jobs import blobs
from p2pfl.schema import file_bytes, header
from p2pfl.spec import blob_schema
from p2pfl.store.hashing import digest_of
from p2pfl.work import AggregationJob, EvaluationJob, TrainingJob
from tests.support.core import ballot
from tests.support.records import AGREEMENT, LAYOUT, SCHEMA, SPEC, STATEFUL
from tests.support.work import GOOD, MODEL, RUN, WAIT_SECONDS, Bench, on_disk


async def test_a_fetched_blob_is_ready_and_guarded_until_its_release_comes_up(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    assert bench.store.is_pinned(name), "from the first step on: a collection may be under way"
    assert await bench.host.outcome() == on_disk(name)
    assert bench.puller.pulls == [(name, file_bytes(SCHEMA), ("ben",))]
    assert bench.store.is_durable(name)
    assert bench.store.is_pinned(name)
    assert bench.host.unpinned == [name]
    assert bench.host.told == [], "a quick blob is here before anybody could see it come"


async def test_the_coming_of_a_long_blob_is_told_with_the_name_of_whom_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "QUICK_BYTES", 0)
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    await bench.host.outcome()
    assert bench.host.told == [events.ProgressMade(0, "pull", len(GOOD), len(GOOD), "the device ben")]


async def test_frozen_tensors_are_pulled_once_kept_beside_the_blobs_and_told(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    fetch = Fetch(name, LAYOUT, ("ben",), is_frozen=True)
    bench.work.begin(fetch)
    assert await bench.host.outcome() == on_disk(name)
    assert not bench.store.has(name)
    assert digest_of(frozen_file(bench.store.directory, name)) == name
    assert bench.host.told == [
        events.Notice("info", f"took {len(GOOD) / 1e6:.1f} MB of frozen parameters from the device ben")
    ]
    bench.host.fed.clear()
    bench.work.begin(fetch)
    assert await bench.host.outcome() == [inputs.BlobReady(name, durable=True)]
    assert len(bench.puller.pulls) == 1
    assert len(bench.host.told) == 1


async def test_an_update_is_fetched_without_a_flush_and_said_to_be_so(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    bench.work.begin(Fetch(name, LAYOUT, ("ben",), durable=False))
    assert await bench.host.outcome() == [inputs.BlobReady(name, durable=False)]
    assert bench.store.has(name)
    assert not bench.store.is_durable(name)


async def test_a_blob_not_flushed_that_a_vote_wants_is_made_durable_and_not_pulled_again(
    tmp_path: Path,
) -> None:
    bench, name = Bench(tmp_path), blake3(GOOD).hexdigest()
    path = bench.store.new_path()
    path.write_bytes(GOOD)
    bench.store.adopt(path, name, durable=False)
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    assert await bench.host.outcome() == on_disk(name)
    assert bench.store.is_durable(name)
    assert bench.puller.pulls == []


async def test_a_vote_that_wants_the_bytes_of_an_update_under_way_gets_them_durable(tmp_path: Path) -> None:
    # The average of one update has the same bytes: update and model are one blob.
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    bench.puller.may_bring.clear()
    bench.work.begin(Fetch(name, LAYOUT, ("ben",), durable=False))
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    jobs = set(bench.work._tasks)
    bench.puller.may_bring.set()
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*jobs)
    ready = [
        one.durable for one in bench.host.fed if isinstance(one, inputs.BlobReady) and one.digest == name
    ]
    assert set(ready) == {False, True}
    assert ready[-1] or not ready[0]
    assert bench.store.is_durable(name)
    assert bench.host.errors == []


async def test_a_fetch_under_way_is_not_begun_twice(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    bench.work.begin(Fetch(name, LAYOUT, ("cleo",)))
    assert await bench.host.outcome() == on_disk(name)
    assert len(bench.puller.pulls) == 1


async def test_a_blob_that_fails_its_check_is_invalid_for_good(tmp_path: Path) -> None:
    bad = GOOD[:-1]
    bench, name = Bench(tmp_path, data=bad), blake3(bad).hexdigest()
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    [failed] = await bench.host.outcome()
    assert isinstance(failed, inputs.BlobFailed)
    assert failed.invalid


NAN = GOOD[:-4] + b"\x00\x00\xc0\x7f"
"""A model whose last number is none."""


@pytest.mark.parametrize("shows", [True, False])
async def test_a_number_that_is_not_finite_is_found_whether_its_bytes_were_seen_coming_or_not(
    tmp_path: Path, *, shows: bool
) -> None:
    bench, name = Bench(tmp_path, data=NAN), blake3(NAN).hexdigest()
    bench.puller.shows = shows
    parent = bench.keep(GOOD)
    bench.work.begin(Fetch(name, LAYOUT, ("ben",), parent=parent))
    [failed] = await bench.host.outcome()
    assert isinstance(failed, inputs.BlobFailed)
    assert failed.invalid
    assert "not finite" in failed.reason
    assert not bench.store.has(name), "who has it offers it again, as good as it is"


@pytest.mark.parametrize("shows", [True, False])
async def test_a_number_that_is_not_finite_may_be_where_the_parent_has_the_same(
    tmp_path: Path, *, shows: bool
) -> None:
    data = NAN.replace(header(SCHEMA) + bytes(8), header(SCHEMA) + b"\x01" + bytes(7))
    bench, name = Bench(tmp_path, data=data), blake3(data).hexdigest()
    bench.puller.shows = shows
    bench.work.begin(Fetch(name, LAYOUT, ("ben",), parent=bench.keep(NAN)))
    assert await bench.host.outcome() == on_disk(name)


async def test_a_number_that_is_not_finite_is_judged_when_the_parent_is_here(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path, data=NAN), blake3(NAN).hexdigest()
    parent = blake3(GOOD).hexdigest()
    bench.work.begin(Fetch(name, LAYOUT, ("ben",), parent=parent))
    [failed] = await bench.host.outcome()
    assert isinstance(failed, inputs.BlobFailed)
    assert not failed.invalid
    bench.keep(GOOD)
    bench.forget()
    bench.work.begin(Fetch(name, LAYOUT, ("ben",), parent=parent))
    [failed] = await bench.host.outcome()
    assert isinstance(failed, inputs.BlobFailed)
    assert failed.invalid


async def test_the_numbers_of_a_model_that_a_record_has_settled_are_not_judged(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path, data=NAN), blake3(NAN).hexdigest()
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    assert await bench.host.outcome() == on_disk(name)


async def test_a_schema_is_read_from_a_model_that_is_here(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.work.begin(ReadSchema(bench.keep(GOOD), LAYOUT, ("ben",)))
    assert await bench.host.outcome() == [inputs.SchemaRead(LAYOUT, SCHEMA)]
    assert bench.puller.pulls == []


async def test_no_more_of_a_model_is_pulled_than_its_schema_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, name = Bench(tmp_path), blake3(GOOD).hexdigest()
    cancelled = asyncio.Event()

    async def pull(request: PullRequest) -> None:
        assert (request.digest, request.length, request.sources) == (name, len(GOOD), ("ben",))
        watch = request.watch
        assert watch is not None
        watch(0, b"of an attempt that broke off")
        for offset in range(0, LAYOUT.header_bytes + 7, 7):
            watch(offset, GOOD[offset : offset + 7])
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    monkeypatch.setattr(bench.puller, "pull", pull)
    bench.work.begin(ReadSchema(name, LAYOUT, ("ben",)))
    assert await bench.host.outcome() == [inputs.SchemaRead(LAYOUT, SCHEMA)]
    assert cancelled.is_set()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (NetworkError("nobody has it"), "nobody has it"),
        (header(SCHEMA[:1]) + bytes(40), "the file does not begin with the header of this run's model"),
    ],
)
async def test_a_schema_that_cannot_be_read_is_none_with_the_reason(
    tmp_path: Path, data: bytes | Exception, reason: str
) -> None:
    bench = Bench(tmp_path, data=data)
    bench.work.begin(ReadSchema(MODEL, LAYOUT, ("ben",)))
    assert await bench.host.outcome() == [inputs.SchemaRead(LAYOUT, None, reason)]


# --- damage on this disk ------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [lambda data: data[:-1] + b"\x01", lambda data: data[:-5]])
async def test_a_model_that_was_damaged_on_disk_is_deleted_told_of_and_pulled_again(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    (tmp_path / name).write_bytes(damage(GOOD))
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    assert await bench.host.outcome() == on_disk(name)
    assert bench.store.is_intact(name)
    [notice] = bench.host.told
    assert isinstance(notice, events.Notice)
    assert f"the model {name[:12]} on this disk is damaged" in notice.text


async def test_damaged_bytes_with_a_marker_are_found_and_pulled_again(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    path = bench.store.new_path()
    path.write_bytes(GOOD)
    bench.store.adopt(path, name)
    (tmp_path / name).write_bytes(bytes(len(GOOD)))
    assert bench.store.is_durable(name)
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    assert await bench.host.outcome() == on_disk(name)
    assert len(bench.puller.pulls) == 1
    assert bench.store.is_intact(name)


async def test_a_marker_without_its_blob_is_no_blob_and_does_not_spare_the_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    flushed: list[int] = []
    monkeypatch.setattr("p2pfl.store.blobs.flush", flushed.append)
    (tmp_path / f"{name}.durable").touch()
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    assert await bench.host.outcome() == on_disk(name)
    assert len(bench.puller.pulls) == 1
    assert len(flushed) == 1
    assert bench.store.is_intact(name)


async def test_a_damaged_model_that_nobody_has_is_not_said_to_be_here(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path, data=NetworkError("nobody has it")), blake3(GOOD).hexdigest()
    (tmp_path / name).write_bytes(GOOD[:-1] + b"\x01")
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    assert await bench.host.outcome() == [inputs.BlobFailed(name, "nobody has it", invalid=False)]
    assert not bench.store.has(name)


async def test_a_blob_is_hashed_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, name = Bench(tmp_path), blake3(GOOD).hexdigest()
    (tmp_path / name).write_bytes(GOOD)
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    await bench.host.outcome()
    bench.forget()
    monkeypatch.setattr(blobs, "digest_of", None)  # would raise
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    assert await bench.host.outcome() == [inputs.BlobReady(name, durable=True)]


@pytest.mark.parametrize("effect", ["train", "evaluate"])
async def test_a_model_found_damaged_when_the_worker_reads_it_is_lost_and_no_work_has_failed(
    tmp_path: Path, effect: str
) -> None:
    name = blake3(GOOD).hexdigest()
    bench = Bench(tmp_path, *[WorkerError("its bytes are not those it is named by")] * 4)
    (tmp_path / name).write_bytes(GOOD[:-1] + b"\x01")
    for _ in range(2):  # evaluated and trained on at the same time: whoever comes second finds no file
        bench.forget()
        if effect == "train":
            bench.work.begin(Train(TrainingJob(RUN, 3, SPEC, AGREEMENT, name, 1)))
        else:
            bench.work.begin(Evaluate(EvaluationJob(RUN, 2, SPEC, AGREEMENT, name, 0, 3)))
        [lost] = await bench.host.outcome()
        assert isinstance(lost, inputs.BlobFailed)
        assert (lost.digest, lost.is_lost) == (name, True)
        assert not bench.store.has(name)
    assert len(bench.host.told) == 1


async def test_work_that_failed_on_an_intact_model_has_failed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, TaskError("the loss is not finite"))
    name = bench.keep(GOOD)
    train = Train(TrainingJob(RUN, 3, SPEC, AGREEMENT, name, 1))
    bench.work.begin(train)
    assert await bench.host.outcome() == [inputs.WorkFailed(train, "the loss is not finite")]
    assert bench.store.has(name)


async def test_a_blob_that_is_here_whole_and_of_no_use_is_not_pulled_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, data=GOOD)
    bench.work.begin(Fetch(bench.keep(NAN), LAYOUT, ("ben",), parent=bench.keep(GOOD)))
    [failed] = await bench.host.outcome()
    assert isinstance(failed, inputs.BlobFailed)
    assert failed.invalid
    assert bench.puller.pulls == []


async def test_a_blob_looked_at_while_it_came_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "check_blob", None)  # would raise
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    assert await bench.host.outcome() == on_disk(name)


@pytest.mark.parametrize(
    "error",
    [NetworkError("nobody has it"), BlobError("its bytes are others"), OutOfFilesError("too many files")],
)
async def test_a_blob_that_cannot_be_had_now_may_be_had_later(tmp_path: Path, error: Exception) -> None:
    bench = Bench(tmp_path, data=error)
    bench.work.begin(Fetch(MODEL, LAYOUT, ("ben",)))
    assert await bench.host.outcome() == [inputs.BlobFailed(MODEL, str(error), invalid=False)]


def _refusing(number: int) -> Callable[[Path], str]:
    def refuse(path: Path) -> str:
        raise OSError(number, os.strerror(number), str(path))

    return refuse


async def test_a_blob_that_cannot_be_opened_now_for_want_of_files_may_be_used_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, name = Bench(tmp_path), blake3(GOOD).hexdigest()
    (tmp_path / name).write_bytes(GOOD)
    monkeypatch.setattr(blobs, "digest_of", _refusing(errno.EMFILE))
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    [failed] = await bench.host.outcome()
    assert isinstance(failed, inputs.BlobFailed)
    assert (failed.invalid, bench.store.has(name)) == (False, True)
    assert "too many files" in failed.reason


async def test_a_blob_that_the_disk_does_not_give_ends_the_node_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, name = Bench(tmp_path), blake3(GOOD).hexdigest()
    (tmp_path / name).write_bytes(GOOD)
    monkeypatch.setattr(blobs, "digest_of", _refusing(errno.EIO))
    bench.work.begin(Fetch(name, LAYOUT, ("ben",)))
    await bench.host.outcome()
    [error] = bench.host.errors
    assert isinstance(error, DataDirectoryError)
    assert str(error).startswith(f"cannot read {tmp_path / name}")


# --- companions -------------------------------------------------------------------------------------------------

STATE_SCHEMA = blob_schema(SCHEMA, STATEFUL, "state")
STATE = header(STATE_SCHEMA) + bytes(file_bytes(STATE_SCHEMA) - len(header(STATE_SCHEMA)))
"""A state of zeros for a model of `SCHEMA`."""
BAD_STATE = STATE[:-4] + b"\x00\x00\xc0\x7f"
"""The same with a NaN as its last number."""


def with_state(model: str, state: str, parent: str = "") -> Fetch:
    return Fetch(model, LAYOUT, ("ben",), parent=parent, companions=(Companion(state, "state", STATEFUL),))


def name_of(data: bytes) -> str:
    return blake3(data).hexdigest()


async def test_a_state_is_pulled_after_its_model_whose_header_gives_its_length(tmp_path: Path) -> None:
    bench, names = Bench(tmp_path), (name_of(GOOD), name_of(STATE))
    bench.puller.by_name = {names[0]: GOOD, names[1]: STATE}
    bench.work.begin(with_state(*names))
    assert all(bench.store.is_pinned(name) for name in names)
    assert await bench.host.outcome() == [
        inputs.BlobReady(names[0], durable=False, companions=names[1:]),
        inputs.BlobReady(names[0], durable=True, companions=names[1:]),
    ]
    assert bench.puller.pulls == [
        (names[0], file_bytes(SCHEMA), ("ben",)),
        (names[1], file_bytes(STATE_SCHEMA), ("ben",)),
    ]
    assert all(bench.store.is_durable(name) for name in names)
    assert sorted(bench.host.unpinned) == sorted(names)


async def test_a_model_whose_state_is_not_to_be_had_is_not_ready(tmp_path: Path) -> None:
    bench = Bench(tmp_path, data=NetworkError("nobody has it"))
    name, state = bench.keep(GOOD), name_of(STATE)
    bench.work.begin(with_state(name, state))
    failed = inputs.BlobFailed(name, "nobody has it", invalid=False, companions=(state,))
    assert await bench.host.outcome() == [failed]
    assert bench.store.has(name)


async def test_a_proposed_state_is_finite_everywhere_and_a_committed_one_is_taken_as_it_is(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)
    parent, name, state = bench.keep(GOOD), bench.keep(GOOD), bench.keep(BAD_STATE)
    bench.work.begin(with_state(name, state, parent))
    [failed] = await bench.host.outcome()
    assert isinstance(failed, inputs.BlobFailed)
    assert (failed.digests, failed.invalid) == ((name, state), True)
    assert "not finite" in failed.reason
    assert not bench.store.has(state)
    bench.forget()
    bench.keep(BAD_STATE)
    bench.work.begin(with_state(name, state))
    assert (await bench.host.outcome())[-1] == inputs.BlobReady(name, durable=True, companions=(state,))


async def test_a_state_of_another_length_than_the_strategy_s_is_of_no_use(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    name, other = bench.keep(GOOD), bench.keep(GOOD[:-1] + b"\x01")
    bench.work.begin(with_state(name, other))
    [failed] = await bench.host.outcome()
    assert isinstance(failed, inputs.BlobFailed)
    assert failed.invalid


async def test_a_damaged_state_is_deleted_and_pulled_again(tmp_path: Path) -> None:
    bench, name, state = Bench(tmp_path), name_of(GOOD), name_of(STATE)
    bench.keep(GOOD)
    (tmp_path / state).write_bytes(STATE[:-1] + b"\x01")
    bench.puller.by_name = {state: STATE}
    bench.work.begin(with_state(name, state))
    assert (await bench.host.outcome())[-1] == inputs.BlobReady(name, durable=True, companions=(state,))
    assert [pull[0] for pull in bench.puller.pulls] == [state]
    assert bench.store.is_intact(state)


async def test_a_model_that_is_gone_when_its_state_is_looked_for_is_pulled_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path, _length: int) -> bytes:
        raise FileNotFoundError(errno.ENOENT, "No such file", str(path))

    monkeypatch.setattr(blobs, "_read_start", gone)
    bench = Bench(tmp_path)
    name, state = bench.keep(GOOD), bench.keep(STATE)
    bench.work.begin(with_state(name, state))
    [failed] = await bench.host.outcome()
    assert isinstance(failed, inputs.BlobFailed)
    assert (failed.digests, failed.invalid) == ((name, state), False)


async def test_a_state_found_damaged_by_a_failed_training_is_lost_and_the_model_is_not(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, *[WorkerError("its bytes are not those it is named by")] * 2)
    name, state = bench.keep(GOOD), name_of(STATE)
    (tmp_path / state).write_bytes(STATE[:-1] + b"\x01")
    bench.work.begin(Train(TrainingJob(RUN, 3, STATEFUL, AGREEMENT, name, 1, state=state)))
    [lost] = await bench.host.outcome()
    assert isinstance(lost, inputs.BlobFailed)
    assert (lost.digest, lost.is_lost) == (state, True)
    assert bench.store.has(name)
    assert not bench.store.has(state)


async def test_a_failed_aggregation_finds_a_damaged_state_and_has_failed_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path, *[WorkerError("the state cannot be read")] * 2)
    parent, state = bench.keep(GOOD), name_of(STATE)
    (tmp_path / state).write_bytes(STATE[:-1] + b"\x01")
    job = AggregationJob(RUN, 3, ballot(1, "ada"), STATEFUL, parent, (), state)
    bench.work.begin(Aggregate(job))
    await bench.host.outcome()
    async with asyncio.timeout(WAIT_SECONDS):
        while len(bench.host.fed) < 2:  # noqa: ASYNC110 - the second input comes at once
            await asyncio.sleep(0)
    failed, lost = bench.host.fed
    assert failed == inputs.WorkFailed(Aggregate(job), "the state cannot be read")
    assert isinstance(lost, inputs.BlobFailed)
    assert (lost.digest, lost.is_lost) == (state, True)
