"""What a demo came to, read from journals: agreement, and its absence."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from p2pfl.core.effects import SaveCommit, SaveGenesis
from p2pfl.demo.results import JournalSummary, disagreements, read_journals
from p2pfl.messages import Commit, RecordBlobs, record_digest
from p2pfl.store.blobs import BlobStore
from p2pfl.store.directory import DataDirectory
from p2pfl.store.journal import Journal as Written
from tests.support.records import Chain, digest, evaluations, node


def chain() -> Chain:
    """A run of one round and the closing evaluation; its model is the blob of the bytes `model`."""
    made = Chain()
    made.commit(model=digest("model"))
    made.commit(
        kind="evaluate", model=digest("model"), evaluated=evaluations((3, 4), (2, 4)), then="end", attempt=2
    )
    return made


def write(path: Path, run: Chain, commits: list[Commit] | None = None, blob: bytes | None = b"model") -> Path:
    """Write the data directory of node ada."""
    directory = DataDirectory(path)
    with directory.open():
        journal = Written.open(directory.journal_path, node("ada"))
        journal.save(SaveGenesis(run.run, run.genesis))
        for commit in run.commits if commits is None else commits:
            journal.save(SaveCommit(run.run, commit, 1.5))
        journal.close()
        store = BlobStore(directory.blobs_path)
        if blob is not None:
            new = store.new_path()
            new.write_bytes(blob)
            store.adopt(new, digest("model"))
    return path


@pytest.fixture
def run() -> Chain:
    return chain()


def test_nodes_with_the_same_records_and_model_agree(tmp_path: Path, run: Chain) -> None:
    journals = read_journals({name: write(tmp_path / name, run) for name in ("ada", "ben")})
    assert disagreements(journals) == []
    ada = journals["ada"]
    assert ada.run.ended
    assert ada.held == digest("model")
    assert ada.slots == {"ada": 0, "ben": 1, "cleo": 2}


def test_a_node_that_was_never_in_a_run_has_no_journal(tmp_path: Path, run: Chain) -> None:
    (tmp_path / "empty").mkdir()
    paths = {"ada": write(tmp_path / "ada", run), "ben": tmp_path / "missing", "cleo": tmp_path / "empty"}
    assert set(read_journals(paths)) == {"ada"}


def test_a_node_that_died_on_the_way_still_agrees_as_far_as_it_came(tmp_path: Path, run: Chain) -> None:
    paths = {"ada": write(tmp_path / "ada", run), "ben": write(tmp_path / "ben", run, run.commits[:1])}
    assert disagreements(read_journals(paths)) == []


def test_another_record_of_one_round_is_a_disagreement(tmp_path: Path, run: Chain) -> None:
    other = msgspec.structs.replace(
        run.commits[0],
        record=msgspec.structs.replace(run.commits[0].record, blobs=RecordBlobs(digest("other"))),
    )
    paths = {"ada": write(tmp_path / "ada", run), "ben": write(tmp_path / "ben", run, [other])}
    [found] = disagreements(read_journals(paths))
    assert found == f"round 1: ada has model {digest('model')[:12]}, ben {digest('other')[:12]}"


@pytest.mark.parametrize("blob", [None, b"other bytes"])
def test_a_complete_node_without_the_final_models_bytes_is_a_disagreement(
    tmp_path: Path, run: Chain, blob: bytes | None
) -> None:
    journals = read_journals({"ada": write(tmp_path / "ada", run, blob=blob)})
    assert disagreements(journals) == [f"ada does not hold the final model {digest('model')[:12]}"]


def test_nodes_in_different_runs_disagree(tmp_path: Path, run: Chain) -> None:
    other = Chain(msgspec.structs.replace(run.genesis, nonce="11" * 16))
    other.commit(model=digest("model"))
    paths = {"ada": write(tmp_path / "ada", run), "ben": write(tmp_path / "ben", other)}
    assert any("in different runs" in text for text in disagreements(read_journals(paths)))
    assert record_digest(other.genesis) != run.run


def test_a_journal_is_what_the_demo_keeps_of_a_node(tmp_path: Path, run: Chain) -> None:
    [journal] = read_journals({"ada": write(tmp_path / "ada", run)}).values()
    assert isinstance(journal, JournalSummary)
    assert [row.kind for row in journal.rounds] == ["train", "evaluate"]
    assert journal.model == tmp_path / "ada" / "blobs" / digest("model")
