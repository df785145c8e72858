"""The report of `p2pfl history --verify`; what it looks for is tested with `p2pfl.store.verify`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from p2pfl.cli.history import history
from p2pfl.core.effects import SaveCommit, SaveGenesis
from p2pfl.errors import UserError
from p2pfl.store.directory import DataDirectory
from p2pfl.store.journal import Journal
from tests.support.records import Chain, node

app = Typer(rich_markup_mode=None)
app.command()(history)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words, env={"COLUMNS": "80", "TERM": "dumb"})


@pytest.fixture
def chain() -> Chain:
    return Chain()


def directory(path: Path, name: str, chain: Chain, rounds: int, **options: object) -> str:
    """A data directory of *name* after *rounds* more commits of *chain*."""
    with (
        DataDirectory(path / name) as place,
        Journal.open(place.journal_path, node(name)) as book,
    ):
        book.save(SaveGenesis(chain.run, chain.genesis))
        for _ in range(rounds):
            book.save(SaveCommit(chain.run, chain.commit(**options), 1.0))  # type: ignore[arg-type]
    return str(path / name)


def test_a_clean_directory_exits_0_and_says_how_much_was_checked(tmp_path: Path, chain: Chain):
    result = run("--verify", "--data-dir", directory(tmp_path, "ada", chain, 3))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "Checked 1 data directory: 1 run, 3 records with their quorums and votes, 0 models read from end to end.",
        "Nothing is wrong.",
    ]


def test_faults_are_a_line_each_and_exit_1(tmp_path: Path, chain: Chain):
    one = directory(tmp_path, "ada", chain, 2, note="one way")
    chain.commits.clear()
    other = directory(tmp_path, "ben", chain, 3, note="the other")
    result = run("--verify", "--data-dir", one, "--data-dir", other)
    assert result.exit_code == 1
    fault, checked, summary = result.stdout.splitlines()
    assert fault.startswith(f"✗ {other}: run {chain.run[:7]}: round 1 is committed with another record")
    assert fault.endswith("keep both data directories as they are, and report this.")
    assert checked.startswith("Checked 2 data directories: 1 run, 5 records")
    assert summary == "1 fault found, see above."


def test_what_a_hostile_journal_says_reaches_the_terminal_as_plain_text(tmp_path: Path, chain: Chain):
    place = tmp_path / "\x1b[2Jada"
    path = directory(place, "ada", chain, 1, kind="evaluate", model="0" * 64)
    (place / "ada" / "journal.sqlite").write_bytes(b"no journal")
    for leftover in (place / "ada").glob("journal.sqlite-*"):
        leftover.unlink()
    result = run("--verify", "--data-dir", path)
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("words", [("--json",), ("--run", "abc")])
def test_options_of_the_other_report_are_refused(tmp_path: Path, chain: Chain, words: tuple[str, ...]):
    result = run("--verify", "--data-dir", directory(tmp_path, "ada", chain, 1), *words)
    assert isinstance(result.exception, UserError)
    assert "leave --json, --csv, --jsonl, --svg and --run out" in str(result.exception)


def test_several_directories_are_for_verify_only(tmp_path: Path, chain: Chain):
    words = [f"--data-dir={directory(tmp_path, name, chain, 0)}" for name in ("ada", "ben")]
    result = run(*words)
    assert isinstance(result.exception, UserError)
    assert "only --verify takes several data directories" in str(result.exception)
