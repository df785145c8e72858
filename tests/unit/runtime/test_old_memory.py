from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from p2pfl.core.effects import SaveClosed, SaveCommit, SaveGenesis
from p2pfl.messages import Origin
from p2pfl.runtime.old_memory import forget, forget_old_runs, held_runs
from p2pfl.store.blobs import BlobStore
from p2pfl.store.journal import Journal
from tests.support.records import Chain, genesis, node

MODEL = b"the last model of a run"
DIGEST = blake3(MODEL).hexdigest()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal.open(tmp_path / "journal.sqlite", node("ada"))
    yield opened
    opened.close()


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def save(journal: Journal, nonce: str, *, closed: bool, model: str = "", **changes: object) -> str:
    """Save a run, which has a committed *model* if one is given; return its id."""
    chain = Chain(msgspec.structs.replace(genesis(), nonce=nonce * 32, **changes))
    journal.save(SaveGenesis(chain.run, chain.genesis))
    if model:
        journal.save(SaveCommit(chain.run, chain.commit(model=model), 1.0))
    if closed:
        journal.save(SaveClosed(chain.run))
    return chain.run


def remember(folder: Path, run: str) -> Path:
    """Write a file of the memory of *run*."""
    path = folder / "memory" / run[:32] / f"1-{'ab' * 16}"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"numbers")
    return path


def test_the_memory_of_a_run_that_was_left_is_deleted_and_that_of_the_open_run_stays(
    tmp_path: Path, journal: Journal, store: BlobStore
) -> None:
    left, current = save(journal, "1", closed=True), save(journal, "2", closed=False)
    files = [remember(tmp_path, run) for run in (left, current, "ff" * 32)]
    stray = tmp_path / "memory" / "notes.txt"
    stray.write_text("of a person")
    forget_old_runs(journal, store)
    assert [path.exists() for path in files] == [False, True, False]
    assert {path.name for path in stray.parent.iterdir()} == {current[:32], stray.name}


def test_the_memory_of_a_run_that_the_open_one_continues_stays(
    tmp_path: Path, journal: Journal, store: BlobStore
) -> None:
    left = save(journal, "1", closed=True)
    origin = Origin(run=left, round=1, record="ab" * 32, trained=1)
    save(journal, "2", closed=False, continues=(origin,))
    path = remember(tmp_path, left)
    forget_old_runs(journal, store)
    assert path.exists()


def test_the_memory_of_a_run_whose_last_model_can_be_exported_stays(
    journal: Journal, store: BlobStore
) -> None:
    left = save(journal, "1", closed=True, model=DIGEST)
    current = save(journal, "2", closed=False)
    assert held_runs(journal, store) == {current}
    path = store.new_path()
    path.write_bytes(MODEL)
    store.adopt(path, DIGEST)
    assert held_runs(journal, store) == {left, current}


def test_without_an_open_run_nothing_is_deleted(tmp_path: Path, journal: Journal, store: BlobStore) -> None:
    path = remember(tmp_path, "ff" * 32)
    forget_old_runs(journal, store)
    save(journal, "1", closed=True)
    forget_old_runs(journal, store)
    assert path.exists()


def test_a_folder_that_cannot_be_deleted_is_told_and_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = remember(tmp_path, "ff" * 32)
    link = tmp_path / "memory" / ("ee" * 16)
    link.symlink_to(path.parent, target_is_directory=True)
    forget(tmp_path / "memory", ["ff" * 32])
    assert path.exists()
    assert "the memory of an old run cannot be deleted" in caplog.text


def test_a_data_directory_without_memory_is_fine(tmp_path: Path) -> None:
    forget(tmp_path / "memory", [])
