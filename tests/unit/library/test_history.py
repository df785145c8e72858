from __future__ import annotations

import sys
from pathlib import Path

import pytest

from p2pfl.core.effects import SaveCommit, SaveGenesis
from p2pfl.errors import UserError
from p2pfl.library.history import RoundHistory, frame, history
from p2pfl.store.directory import DataDirectory
from p2pfl.store.journal import Journal
from tests.support.records import Chain, evaluations, genesis, node


def chain_of(nonce: str) -> Chain:
    """Two training rounds and the closing evaluation."""
    chain = Chain(genesis(nonce))
    chain.commit(proposer="ben")
    chain.commit(proposer="cleo", attempt=3, evaluated=evaluations((5, 10), (6, 10)))
    chain.commit(kind="evaluate", evaluated=evaluations((8, 10), (9, 10)), then="end")
    return chain


CHAINS = [chain_of("00" * 16), chain_of("11" * 16)]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory with two runs."""
    with (
        DataDirectory(tmp_path / "node") as directory,
        Journal.open(directory.journal_path, node("ada")) as book,
    ):
        for chain in CHAINS:
            book.save(SaveGenesis(chain.run, chain.genesis))
            book.save_all([SaveCommit(chain.run, commit, 12.5) for commit in chain.commits])
    return tmp_path / "node"


def test_the_training_rounds_of_the_newest_run_are_typed_rows(data_dir: Path) -> None:
    rows = history(data_dir)
    assert rows.run == CHAINS[1].run
    assert [(row.training_round, row.aggregator, row.kind) for row in rows] == [
        (1, "ben", "train"),
        (2, "cleo", "train"),
    ]
    assert rows[0].accuracy == 0.55


def test_another_run_is_named_by_the_beginning_of_its_id(data_dir: Path) -> None:
    assert history(str(data_dir), run=CHAINS[0].run[:6]).run == CHAINS[0].run
    with pytest.raises(UserError, match="no run here has an id that begins with 'xyz'"):
        history(data_dir, run="xyz")


def test_a_folder_without_a_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        history(tmp_path)


def test_a_table_has_a_row_for_each_round_and_a_column_for_each_metric(data_dir: Path) -> None:
    table = history(data_dir).to_pandas()
    assert [*table.index] == [1, 2]
    assert table.index.name == "round"
    assert [*table["accuracy"]] == [0.55, 0.85]
    assert [*table["aggregator"]] == ["ben", "cleo"]
    assert [*table["attempt"]] == [1, 3]
    assert [*table["seconds"]] == [12.5, 12.5]
    assert table["committed"].all()


def test_a_table_of_members_has_each_evaluation_and_training(data_dir: Path) -> None:
    table = history(data_dir).to_pandas(members=True)
    assert table.index.names == ["round", "member"]
    assert table.loc[(1, "ada"), "accuracy"] == 0.5
    assert table.loc[(2, "ben"), "accuracy"] == 0.9
    assert table.loc[(1, "ada"), "examples"] == 10
    assert table.loc[(1, "cleo"), "training_examples"] == 100, "it trained, and evaluated nothing"
    assert table.isna().loc[(1, "cleo"), "accuracy"]


def test_no_rounds_are_an_empty_table() -> None:
    assert RoundHistory([], "run").to_pandas().empty
    assert frame([], members=True).index.names == ["round", "member"]


def test_without_pandas_the_rows_are_there_and_a_table_says_what_to_install(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = history(data_dir)
    assert len(rows) == 2
    with pytest.raises(UserError, match=r"needs the package pandas.*pip install 'p2pfl-lan\[pandas\]'"):
        rows.to_pandas()
