"""`p2pfl demo` before it starts anything: its folder, its certificates, its options."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.cli import demo as demo_module
from p2pfl.cli import load
from p2pfl.demo import run
from p2pfl.demo.director import ENDLESS_ROUNDS
from p2pfl.demo.folder import save_place
from p2pfl.demo.run import DemoSettings
from p2pfl.errors import TaskError, UserError
from p2pfl.identity.authority import list_certificates
from p2pfl.learning.data import DataPlaces
from p2pfl.spec import task_name
from p2pfl.strategy_specs import FedAdamSpec, strategy_name
from tests.support.images import write_images
from tests.support.user_tasks import write_task


@pytest.fixture
def performed(monkeypatch: pytest.MonkeyPatch) -> list[DemoSettings]:
    """The settings demos were performed with, which is all that happens to them."""
    settings: list[DemoSettings] = []

    async def perform(setting: DemoSettings, screen: object) -> int:
        assert (setting.folder / "certs" / "ca.key").exists()
        settings.append(setting)
        return 1

    monkeypatch.setattr(run, "perform", perform)
    return settings


def invoke(*words: str) -> int:
    code = load("demo").main(list(words), standalone_mode=False)
    assert isinstance(code, int)
    return code


def test_the_defaults_are_four_nodes_on_unequal_data_in_a_folder_that_goes(
    performed: list[DemoSettings],
) -> None:
    assert invoke() == 1
    [setting] = performed
    assert setting.nodes == 4
    saved = f"--save-dir={save_place()}"
    assert setting.options == (saved,)
    assert not setting.keeps
    assert not setting.folder.exists()


def test_options_are_handed_to_every_node(performed: list[DemoSettings], tmp_path: Path) -> None:
    words = "--nodes 3 --rounds 5 --model 2nn --partition iid --seed 7 --pace 1.5 --no-tui --dir"
    invoke(*words.split(), str(tmp_path / "demo"))
    [setting] = performed
    assert setting.nodes == 3
    assert set(setting.options) == {
        "--rounds=5",
        "--model=2nn",
        "--partition=iid",
        "--seed=7",
        "--pace=1.5",
    }
    assert setting.keeps
    assert setting.folder == tmp_path / "demo"


def test_a_strategy_is_handed_to_every_node_with_its_arguments(
    performed: list[DemoSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_task(tmp_path, "class Mine(Elementwise):\n    def __init__(self, step=1.0): pass\n")
    monkeypatch.chdir(tmp_path)
    invoke("--strategy", "mine.py:Mine", "--strategy-arg", "step=2")
    invoke("--strategy", "FedAdam", "--strategy-arg", "server-lr=0.5", "--strategy-arg", "tau=0.1")
    [own, adam] = performed
    assert {f"--strategy={path}:Mine", "--strategy-arg=step=2"} <= set(own.options)
    assert strategy_name(own.spec.strategy) == "mine.py:Mine"
    assert adam.spec.strategy == FedAdamSpec(server_lr=0.5, tau=0.1)
    assert [one for one in adam.options if one.startswith("--strategy")] == [
        "--strategy=FedAdam",
        "--strategy-arg=server-lr=0.5",
        "--strategy-arg=tau=0.1",
    ]
    with pytest.raises(UserError, match="no strategy 'fedadm'"):
        invoke("--strategy", "fedadm")


def test_what_a_training_is_like_is_handed_to_every_node(performed: list[DemoSettings]) -> None:
    invoke("--epochs", "3", "--lr", "0.05")
    [setting] = performed
    assert {"--epochs=3", "--lr=0.05"} <= set(setting.options)
    assert (setting.spec.training.epochs, setting.spec.training.learning_rate) == (3, 0.05)


def test_a_node_is_killed_in_a_round_there_is(performed: list[DemoSettings]) -> None:
    invoke("--rounds", "4", "--kill-at", "4")
    assert performed[0].plan.kill_at == 4
    with pytest.raises(UserError, match="--kill-at 5 is after the last round, 4"):
        invoke("--rounds", "4", "--kill-at", "5")


@pytest.mark.parametrize(
    ("words", "is_endless"),
    [([], True), (["--rounds", "7"], False), (["--kill-at", "2"], False), (["--no-tui"], False)],
)
def test_on_the_screen_it_goes_on_until_somebody_killed_a_node(
    words: list[str], is_endless: bool, performed: list[DemoSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_module, "has_screen", lambda: True)
    invoke(*words)
    [setting] = performed
    assert setting.plan.is_endless is is_endless
    assert (f"--rounds={ENDLESS_ROUNDS}" in setting.options) is is_endless


def test_a_recording_that_cannot_be_written_is_said_first(
    performed: list[DemoSettings], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is a folder"):
        invoke("--record", str(tmp_path))
    invoke("--record", str(tmp_path / "demo.jsonl"))
    assert [setting.record for setting in performed] == [tmp_path / "demo.jsonl"]


@pytest.mark.parametrize(
    ("words", "is_shown", "pace"),
    [
        ([], True, ["--pace=3"]),
        (["--pace", "0.5"], True, ["--pace=0.5"]),
        (["--pace", "0"], True, []),
        (["--no-tui"], False, []),
        (["--no-tui", "--pace", "2"], False, ["--pace=2"]),
    ],
)
def test_on_a_terminal_it_is_shown_at_a_pace_one_can_follow(
    words: list[str],
    is_shown: bool,
    pace: list[str],
    performed: list[DemoSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo_module, "has_screen", lambda: True)
    invoke(*words)
    [setting] = performed
    assert setting.is_shown is is_shown
    assert [option for option in setting.options if "pace" in option] == pace


def test_without_a_terminal_there_is_no_terminal_ui(performed: list[DemoSettings]) -> None:
    invoke()
    assert not performed[0].is_shown


def test_each_node_has_its_certificate_and_they_are_used_again(
    performed: list[DemoSettings], tmp_path: Path
) -> None:
    invoke("--nodes", "2", "--dir", str(tmp_path))
    (tmp_path / "node-1").mkdir()
    first = list_certificates(tmp_path / "certs")
    assert [entry.name for entry in first] == ["node-1", "node-2"]
    invoke("--nodes", "2", "--dir", str(tmp_path))
    assert list_certificates(tmp_path / "certs") == first


def test_certificates_that_were_interrupted_are_completed(
    performed: list[DemoSettings], tmp_path: Path
) -> None:
    invoke("--nodes", "2", "--dir", str(tmp_path))
    again = tmp_path / "certs" / "node-2"
    for path in again.iterdir():
        path.unlink()
    again.rmdir()
    invoke("--nodes", "2", "--dir", str(tmp_path))
    assert [entry.name for entry in list_certificates(tmp_path / "certs")] == ["node-1", "node-2"]


def test_a_folder_of_another_number_of_nodes_is_refused(
    performed: list[DemoSettings], tmp_path: Path
) -> None:
    invoke("--nodes", "3", "--dir", str(tmp_path))
    (tmp_path / "node-1").mkdir()
    with pytest.raises(UserError, match=r"holds a demo of 3 nodes: .* --nodes 3"):
        invoke("--nodes", "2", "--dir", str(tmp_path))
    assert len(performed) == 1


@pytest.mark.parametrize("words", [["--task", "chess"], ["--model", "gpt"], ["--partition", "fair"]])
def test_what_no_node_would_take_is_refused_before_anything_starts(
    performed: list[DemoSettings], tmp_path: Path, words: list[str]
) -> None:
    with pytest.raises(TaskError):
        invoke(*words, "--dir", str(tmp_path / "demo"))
    assert performed == []
    assert not (tmp_path / "demo").exists()


def test_where_data_are_is_told_to_every_node_and_looked_at_first(
    performed: list[DemoSettings], tmp_path: Path
) -> None:
    words = ("--task", "fashion-mnist", "--data-root", str(tmp_path / "mine"))
    with pytest.raises(TaskError, match="not on this device"):
        invoke(*words)
    write_images(tmp_path / "mine", 10, 10, side=1)
    invoke(*words)
    [setting] = performed
    assert f"--data-root={tmp_path / 'mine'}" in setting.options
    assert setting.places == DataPlaces(tmp_path / "mine")
    assert task_name(setting.spec.task) == "fashion-mnist"


def test_a_download_is_the_demos_not_every_nodes(performed: list[DemoSettings], tmp_path: Path) -> None:
    invoke("--task", "mnist", "--download", "--data-root", str(tmp_path))
    [setting] = performed
    assert setting.places == DataPlaces(tmp_path, download=True)
    assert "--download" not in setting.options


def test_a_folder_for_data_that_the_task_does_not_look_into_is_refused(
    performed: list[DemoSettings], tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"does not look into --data-root.*--task \(fashion-mnist, mnist, cifar10\)"
    ):
        invoke(f"--data-root={tmp_path}")
    assert performed == []


def test_a_demo_that_keeps_its_folder_saves_models_there(
    performed: list[DemoSettings], tmp_path: Path
) -> None:
    invoke(f"--dir={tmp_path}")
    assert not any(option.startswith("--save-dir") for option in performed[0].options)
