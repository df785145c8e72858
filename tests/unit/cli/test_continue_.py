"""`p2pfl continue` says what will happen and asks; then it is a start of the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from p2pfl.cli import continue_
from p2pfl.core.effects import SaveCommit, SaveGenesis
from p2pfl.errors import UserError
from p2pfl.store.directory import DataDirectory
from p2pfl.store.journal import Journal
from tests.support.records import NAMES, Chain, genesis, node


class Started:
    """Stands for the command `p2pfl node`."""

    def __init__(self) -> None:
        self.words: list[str] | None = None

    def main(self, words: list[str], **_settings: Any) -> int:
        self.words = words
        return 3


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    stand_in = Started()
    monkeypatch.setattr("p2pfl.cli.load", lambda _name: stand_in)
    return stand_in


def directory(path: Path, rounds: int = 4, **last: object) -> Path:
    """The data directory of ada, one of five, after *rounds* commits."""
    chain = Chain(genesis(names=NAMES))
    with DataDirectory(path / "ada") as place, Journal.open(place.journal_path, node("ada")) as book:
        book.save(SaveGenesis(chain.run, chain.genesis))
        for number in range(1, rounds + 1):
            options = last if number == rounds else {}
            book.save(SaveCommit(chain.run, chain.commit(**options), 1.0))  # type: ignore[arg-type]
    return path / "ada"


def run(place: Path, *words: str, says: str | None = None) -> Result:
    return CliRunner().invoke(continue_.app, ["--data-dir", str(place), *words], input=says)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continue_, "_is_terminal", lambda: True)


def test_it_says_what_will_happen_and_starts_the_node_with_the_same_options(
    tmp_path: Path, started: Started
) -> None:
    place = directory(tmp_path)
    result = run(place, "--with", "ben", "--yes", "--certs", "here", "--peers=x:1")
    assert "has 4 of 10 rounds committed here." in result.stdout
    assert "Kept:     ada (this device), ben\n" in result.stdout
    assert "Left out: cleo, dan, eve\n" in result.stdout
    assert "at least 3 of the 5 members will not come back" in result.stdout
    assert started.words == [
        *("--certs", "here", "--peers=x:1", "--data-dir", str(place)),
        f"--continue-with={node('ben')}",
    ]
    assert result.exit_code == 3, "the node's own"


def test_alone_it_names_nobody(tmp_path: Path, started: Started) -> None:
    run(directory(tmp_path), "--yes")
    assert started.words is not None
    assert started.words[-1] == "--continue-with="


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("says", "goes"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_at_a_terminal_it_asks(tmp_path: Path, started: Started, says: str, goes: bool) -> None:
    run(directory(tmp_path), "--with", "ben", says=says)
    assert (started.words is not None) == goes


def test_without_a_terminal_it_refuses_unless_told_yes(tmp_path: Path, started: Started) -> None:
    result = run(directory(tmp_path), "--with", "ben")
    assert "no terminal to ask at" in str(result.exception)
    assert "Left out: cleo, dan, eve" in result.stdout
    assert started.words is None


@pytest.mark.parametrize("word", ["ben", node("ben"), node("ben")[:7], " ben , ", "ben,ada"])
def test_members_are_named_by_name_or_by_the_beginning_of_their_id(
    tmp_path: Path, started: Started, word: str
) -> None:
    run(directory(tmp_path), "--with", word, "--yes")
    assert started.words is not None
    assert started.words[-1] == f"--continue-with={node('ben')}"


@pytest.mark.parametrize("word", ["bob", node("ben")[:6], "ben,bob"])
def test_a_name_no_member_has_is_refused_with_those_there_are(
    tmp_path: Path, started: Started, word: str
) -> None:
    result = run(directory(tmp_path), "--with", word, "--yes")
    assert isinstance(result.exception, UserError)
    assert "no member of the run can be meant by" in str(result.exception)
    assert f"ben ({node('ben')[:7]})" in str(result.exception)
    assert started.words is None


def test_a_majority_needs_no_new_run(tmp_path: Path, started: Started) -> None:
    result = run(directory(tmp_path), "--with", "ben,cleo", "--yes")
    assert "are 3 of 5 members, 3 needed: start them with `p2pfl node`" in str(result.exception)
    assert started.words is None


def test_there_must_be_an_unfinished_run_with_a_commit(tmp_path: Path, started: Started) -> None:
    for number, (rounds, last, why) in enumerate(
        [(0, {}, "nothing is committed"), (2, {"then": "end"}, "is complete: there is nothing to continue")]
    ):
        result = run(directory(tmp_path / str(number), rounds, **last), "--yes")
        assert isinstance(result.exception, UserError)
        assert why in str(result.exception)
    with DataDirectory(tmp_path / "new") as place:
        Journal.open(place.journal_path, node("ada")).close()
    assert "was never begun" in str(run(tmp_path / "new", "--yes").exception)
    assert started.words is None


def test_hostile_names_reach_the_terminal_as_plain_text(tmp_path: Path, started: Started) -> None:
    begun = genesis(names=NAMES[:3])
    entry = msgspec.structs.replace(begun.roster[2], name="\x1b[2J")
    chain = Chain(msgspec.structs.replace(begun, roster=(*begun.roster[:2], entry)))
    with DataDirectory(tmp_path) as place, Journal.open(place.journal_path, node("ada")) as book:
        book.save_all([SaveGenesis(chain.run, chain.genesis), SaveCommit(chain.run, chain.commit(), 1.0)])
    assert "\x1b" not in run(tmp_path, "--yes").stdout
    assert "\x1b" not in str(run(tmp_path, "--yes", "--with", "x").exception)
