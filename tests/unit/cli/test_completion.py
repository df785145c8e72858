"""The scripts for shells, run by the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl.cli import load
from p2pfl.cli.completion import Shell, place_of, script_of
from tests.support.source import ROOT


def run(shell: Shell, folder: Path, commands: str) -> list[str]:
    """Run *commands* in *shell*, with the completion loaded and `p2pfl` in its path; return the lines."""
    if shutil.which(shell.value) is None:
        pytest.skip(f"{shell.value} is not installed")
    (folder / "bin").mkdir()
    program = folder / "bin" / "p2pfl"
    program.write_text(f"#!{sys.executable}\nfrom p2pfl.cli import main\nmain()\n")
    program.chmod(0o700)
    (folder / "script").write_text(script_of(shell), encoding="utf-8")
    (folder / "here" / "some certs").mkdir(parents=True)
    (folder / "here" / "some.toml").touch()
    plain = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[shell.value]
    done = subprocess.run(
        [shell.value, *plain, "-c", commands],
        cwd=folder / "here",
        env={
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
        },
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


CASES = [
    (("p2pfl", "nod"), ["node"]),
    (("p2pfl", "node", "--strategy-"), ["--strategy-arg"]),
    (("p2pfl", "node", "--device", "c"), ["cpu", "cuda"]),
    (("p2pfl", "node", "--certs", "some"), ["some certs"]),
    (("p2pfl", "config", "check", "some"), ["some certs", "some.toml"]),
]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        *CASES,
        (("p2pfl", "node", "--strategy", "=", "kr"), ["krum"]),
        (("p2pfl", "node", "--certs", "="), ["some certs"]),
    ],
)
def test_bash_completes(words: tuple[str, ...], found: list[str], tmp_path: Path) -> None:
    quoted = " ".join(f"'{word}'" for word in words)
    commands = (
        f"source ../script; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _p2pfl_completion p2pfl; "
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    assert sorted(run(Shell.BASH, tmp_path, commands)) == found


@pytest.mark.parametrize(
    ("words", "found"), [*CASES[:4], (("p2pfl", "node", "--strategy=kr"), ["--strategy=krum"])]
)
def test_fish_completes(words: tuple[str, ...], found: list[str], tmp_path: Path) -> None:
    lines = run(Shell.FISH, tmp_path, f"source ../script; complete -C '{' '.join(words)}'")
    assert [line.split("\t")[0].rstrip("/") for line in lines] == found


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (
            CASES[0][0],
            ["node:Train with the federation: find peers, agree on a run, train, elect, aggregate, commit."],
        ),
        (CASES[2][0], ["cpu:", "cuda:"]),
        (CASES[3][0], ["folders"]),
        (CASES[4][0], ["files"]),
    ],
)
def test_zsh_completes(words: tuple[str, ...], found: list[str], tmp_path: Path) -> None:
    # The functions of its completion system need a terminal: small ones stand for them.
    commands = (
        "compdef() {}; compset() {}; _describe() { print -rl -- $found }\n"
        "_files() { [[ $1 == -/ ]] && print folders || print files }; source ../script\n"
        f"words=({' '.join(words)}); CURRENT={len(words)}; _p2pfl"
    )
    assert run(Shell.ZSH, tmp_path, commands) == found


def test_the_script_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    load("completion").main(["bash"], standalone_mode=False)
    assert capsys.readouterr().out == script_of(Shell.BASH)


@pytest.mark.parametrize("shell", list(Shell))
def test_the_script_is_installed_where_the_shell_looks(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    load("completion").main([shell.value, "--install"], standalone_mode=False)
    assert place_of(shell).is_relative_to(tmp_path)
    assert place_of(shell).read_text(encoding="utf-8") == script_of(shell)
    assert ("~/.zshrc" in capsys.readouterr().out) is (shell is Shell.ZSH)
