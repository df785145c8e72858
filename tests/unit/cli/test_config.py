"""`p2pfl config`: the file it writes, what it shows of each option, what it finds wrong."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from p2pfl.cli import load
from p2pfl.cli.option_values import options_of
from p2pfl.cli.settings import ONCE, read_file
from p2pfl.errors import CredentialsError, UserError
from p2pfl.identity.authority import create_authority, issue

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("P2PFL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(*words: str) -> None:
    assert load("config").main(list(words), standalone_mode=False) in (None, 0)


def keys() -> list[str]:
    return [one.key for one in options_of(load("node")) if one.name not in ("config", "isolated", *ONCE)]


def test_the_file_has_every_option_once_with_its_help_and_sets_none() -> None:
    config("init")
    text = Path("p2pfl.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text) == {}
    assert sorted(re.findall(r"^# ([a-z-]+) = ", text, re.MULTILINE)) == sorted(keys())
    assert "# Rounds of training; a higher number extends a finished run." in text
    assert len(re.findall(r"^# --- ", text, re.MULTILINE)) == 2, "each heading once"


def test_every_line_of_the_file_can_be_used() -> None:
    config("init")
    path = Path("p2pfl.toml")
    text = re.sub(r"^# (?=[a-z-]+ = )", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")
    assert len(read_file(load("node"), path)) == len(keys())


def test_options_that_are_given_are_set_in_the_file() -> None:
    config("init", "--rounds", "20", "--peers=a:1,b:2", "--wait", "--data-dir=run", "--to=sub.toml")
    found = tomllib.loads(Path("sub.toml").read_text(encoding="utf-8"))
    assert found == {"rounds": 20, "peers": ["a:1", "b:2"], "wait": True, "data-dir": "run"}


def test_arguments_of_a_script_are_set_in_the_file() -> None:
    config("init", "--script=train.py", "--", "--lr", "1")
    found = tomllib.loads(Path("p2pfl.toml").read_text(encoding="utf-8"))
    assert found == {"script": "train.py", "arguments": ["--lr", "1"]}


def test_paths_stay_the_same_places_in_a_file_elsewhere(folder: Path) -> None:
    Path("sub").mkdir()
    config("init", "--data-dir=run", "--to=sub/p2pfl.toml")
    found = read_file(load("node"), Path("sub/p2pfl.toml"))
    assert found["data_dir"].value == folder / "run"


def test_a_file_is_replaced_only_if_that_is_wanted() -> None:
    Path("p2pfl.toml").write_text("mine")
    with pytest.raises(UserError, match=r"p2pfl.toml exists and is not replaced.*--force"):
        config("init")
    assert Path("p2pfl.toml").read_text() == "mine"
    config("init", "--force")
    assert Path("p2pfl.toml").read_text() != "mine"


def test_every_option_is_shown_with_its_value_and_its_source(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    Path("p2pfl.toml").write_text('rounds = 20\npeers = ["a:1", "b:2"]\n')
    monkeypatch.setenv("P2PFL_LR", "0.5")
    config("show", "--seed=3")
    rows = [re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert {row[0] for row in rows} == {*keys(), "config", "new-run", "new-journal"}
    assert ["rounds", "20", "p2pfl.toml:1"] in rows
    assert ["peers", '["a:1", "b:2"]', "p2pfl.toml:2"] in rows
    assert ["lr", "0.5", "environment P2PFL_LR"] in rows
    assert ["seed", "3", "flag"] in rows
    assert ["round-cap", "900", "default"] in rows


def test_what_is_given_is_shown_for_scripts(capsys: Output) -> None:
    Path("p2pfl.toml").write_text('rounds = 20\ndata-dir = "run"\n')
    config("show", "--json", "--given")
    assert json.loads(capsys.readouterr().out) == {
        "rounds": {"value": 20, "source": "p2pfl.toml:1"},
        "data-dir": {"value": str(Path("run").absolute()), "source": "p2pfl.toml:2"},
    }


def test_a_right_file_is_told_to_be_right(capsys: Output) -> None:
    create_authority(Path("ca"))
    issue(Path("ca"), "ada")
    Path("p2pfl.toml").write_text('rounds = 20\ncerts = "ca/ada"\n')
    config("check")
    assert capsys.readouterr().out == ("p2pfl.toml sets 2 options, and nothing is wrong: certs, rounds\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("round = 1", "did you mean rounds"),
        ('strategy = "best"', r"no strategy 'best'"),
        ("min-nodes = 300", r"--min-nodes is 300.*\(--min-nodes comes from other.toml:1.\)"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong(text: str, told: str) -> None:
    Path("other.toml").write_text(text)
    with pytest.raises(UserError, match=told):
        config("check", "other.toml")


def test_a_file_whose_certificates_are_missing_here_is_not_right_here() -> None:
    Path("p2pfl.toml").write_text('certs = "none"')
    with pytest.raises(CredentialsError):
        config("check")
