"""Candidates for a command line that is not finished."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl.cli import SUBCOMMANDS, completing
from p2pfl.cli.completing import FILES, FOLDERS, answer, candidates
from p2pfl.learning.catalogue import CATALOGUE
from p2pfl.learning.strategy_choice import BUILTIN_STRATEGIES


def values(*words: str) -> list[str]:
    return [one.value for one in candidates(words)]


def test_commands_are_completed_with_their_help() -> None:
    assert values("") == list(SUBCOMMANDS)
    [found] = candidates(["nod"])
    assert found == ("node", SUBCOMMANDS["node"].help)


def test_commands_of_a_group_are_completed() -> None:
    assert values("certs", "i") == ["init", "issue"]
    assert values("certs", "issue", "--ro") == ["--role"]


def test_options_are_completed_and_hidden_ones_are_not() -> None:
    assert {"--strategy", "--strategy-arg"} <= set(values("node", "--st"))
    assert values("node", "--pac") == []
    assert values("--ver") == ["--version"]
    assert values("node", "--hel") == ["--help"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("node", "--device", ""), ["auto", "cpu", "cuda", "mps"]),
        (("node", "--device", "c"), ["cpu", "cuda"]),
        (("task", "new", "x.py", "--kind", "sc"), ["script"]),
        (("certs", "issue", "ada", "--role", "ob"), ["observer"]),
        (("completion", "z"), ["zsh"]),
        (("node", "--task", ""), list(CATALOGUE)),
        (("node", "--strategy", "kr"), ["krum"]),
        (("demo", "--strategy", ""), list(BUILTIN_STRATEGIES)),
        (("node", "--model", "2"), ["2nn"]),
        (("node", "--task", "mine"), [FILES]),
        (("node", "--certs", ""), [FOLDERS]),
        (("node", "--data-dir", "x"), [FOLDERS]),
        (("node", "--events", ""), [FILES]),
        (("config", "check", ""), [FILES]),
        (("evaluate", ""), [FILES]),
        (("node", "--rounds", ""), []),
    ],
)
def test_values_are_completed(words: tuple[str, ...], found: list[str]) -> None:
    assert values(*words) == found


def test_a_value_behind_an_equals_sign_is_completed_as_each_shell_cuts_the_word() -> None:
    assert values("node", "--strategy=kr") == ["--strategy=krum"]
    assert values("node", "--strategy", "=", "kr") == ["krum"]
    assert values("node", "--strategy", "=") == list(BUILTIN_STRATEGIES)
    assert values("node", "--certs=ce") == [FOLDERS]


@pytest.mark.parametrize(
    "words", [("config", "init"), ("config", "show"), ("service", "install"), ("continue",)]
)
def test_commands_that_take_the_options_of_a_node_complete_them(words: tuple[str, ...]) -> None:
    assert values(*words, "--roun") == ["--rounds", "--round-cap"]
    assert values(*words, "--device", "c") == ["cpu", "cuda"]


def test_a_flag_takes_no_value() -> None:
    assert values("node", "--wait", "--round-") == ["--round-cap"]


def test_names_of_nodes_on_this_device_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ada", "ben"):
        (tmp_path / "p2pfl" / name).mkdir(parents=True)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert values("status", "--node", "a") == ["ada"]


def test_the_answer_is_a_candidate_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    answer(["node", "--stay"])
    assert capsys.readouterr().out == "--stay\tKeep serving after the end of the run.\n"


def test_a_mistake_before_is_answered_with_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(completing, "candidates", fail)
    answer(["node", ""])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "words", [["nod"], ["node", "--st"], ["node", "--task", "d"], ["node", "--strategy", "k"]]
)
def test_nothing_heavy_is_imported(words: list[str]) -> None:
    code = (
        "import atexit, sys; heavy = {'torch', 'rich', 'asyncio', 'sklearn'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
        f"sys.argv[1:] = {words!r}\n"
        "from p2pfl.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"_P2PFL_COMPLETE": "bash"}, capture_output=True, text=True
    )
    assert done.stdout
    assert done.stderr == "[]\n"
