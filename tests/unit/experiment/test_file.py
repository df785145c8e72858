from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from p2pfl.errors import UserError
from p2pfl.experiment.file import ExperimentPlan, options_of, read_experiment
from p2pfl.learning.simulation.attack_specs import GaussianNoise
from p2pfl.spec import TableTask
from p2pfl.strategy_specs import FedProxSpec, KrumSpec
from tests.support.tables import write_table
from tests.support.user_tasks import write_task


def plan(folder: Path, text: str) -> ExperimentPlan:
    path = folder / "compare.toml"
    path.write_text(dedent(text), encoding="utf-8")
    return read_experiment(path)


def test_every_combination_is_a_run(tmp_path: Path) -> None:
    found = plan(
        tmp_path,
        """
        [experiment]
        clients = 5
        rounds = 3
        [grid]
        strategy = ["fedavg", { name = "fedprox", mu = 0.1 }]
        seed = [1, 2, 3]
        """,
    )
    assert found.varied == ("strategy", "seed")
    assert [one.label for one in found.runs][2:4] == [
        "strategy=fedavg, seed=3", "strategy=fedprox mu=0.1, seed=1",
    ]  # fmt: skip
    last = found.runs[-1]
    assert (last.run.spec.strategy, last.run.spec.seed, last.run.clients) == (FedProxSpec(0.1), 3, 5)
    assert last.group == (("strategy", "fedprox mu=0.1"),)


def test_without_a_grid_there_is_one_run(tmp_path: Path) -> None:
    [one] = plan(tmp_path, "[experiment]\nstrategy = 'median'").runs
    assert (one.label, one.group) == ("the only run", ())


def test_runs_without_attackers_are_run_once(tmp_path: Path) -> None:
    found = plan(
        tmp_path,
        """
        [grid]
        attack = ["none", "sign-flip", { name = "gaussian", sigma = 0.5 }]
        attackers = [0, 1, 2]
        """,
    )
    assert [one.label for one in found.runs] == [
        "attack=none, attackers=0",
        "attack=sign-flip, attackers=1",
        "attack=sign-flip, attackers=2",
        "attack=gaussian sigma=0.5, attackers=1",
        "attack=gaussian sigma=0.5, attackers=2",
    ]
    assert found.runs[-1].run.attack == GaussianNoise(0.5)


def test_a_strategy_tolerates_the_same_attackers_in_runs_without_them(tmp_path: Path) -> None:
    attacked = "strategy = ['krum', { name = 'krum', attackers = 1 }]\nattack = ['none', 'sign-flip']"
    for text in (f"[experiment]\nattackers = 2\n[grid]\n{attacked}", f"[grid]\n{attacked}\nattackers = [2]"):
        runs = plan(tmp_path, text).runs
        assert [(one.run.spec.strategy, len(one.run.attackers)) for one in runs] == [
            (KrumSpec(2), 0), (KrumSpec(2), 2), (KrumSpec(1), 0), (KrumSpec(1), 2),
        ]  # fmt: skip
    [one, *_] = plan(tmp_path, f"[experiment]\nattackers = [3, 5]\n[grid]\n{attacked}").runs
    assert one.run.spec.strategy == KrumSpec(2)


def test_ditto_is_run_without_a_fine_tuning_of_its_own(tmp_path: Path) -> None:
    found = plan(
        tmp_path,
        """
        [grid]
        strategy = ["fedavg", "ditto"]
        personal = [[], ["out.*"]]
        personalise = [0, 2]
        """,
    )
    assert [one.label for one in found.runs] == [
        "strategy=fedavg, personal=none, personalise=0",
        "strategy=fedavg, personal=none, personalise=2",
        "strategy=fedavg, personal=out.*, personalise=0",
        "strategy=fedavg, personal=out.*, personalise=2",
        "strategy=ditto, personal=none, personalise=0",
        "strategy=ditto, personal=out.*, personalise=0",
    ]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    write_task(tmp_path, "def model(): ...\ndef data(): ...")
    [one] = plan(tmp_path, "[experiment]\ntask = 'mine.py'").runs
    assert one.run.places.code == str(tmp_path / "mine.py")
    write_table(tmp_path / "people.csv", ["a", "b"], [(1, 2)])
    [two] = plan(tmp_path, "[experiment]\ndata = 'people.csv'\ntarget = 'b'").runs
    assert isinstance(two.run.spec.task, TableTask)
    assert two.run.places.own == tmp_path / "people.csv"


def test_a_module_may_have_py_in_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\[experiment\] model: model is of no use"):
        plan(tmp_path, "[experiment]\ntask = 'acme.pytorch:task'\nmodel = 'x'")
    assert options_of(tmp_path / "e.toml", {"task": "acme.pytorch:task"}) == {"task": "acme.pytorch:task"}
    assert options_of(tmp_path / "e.toml", {"task": "a.py:task"}) == {"task": str(tmp_path / "a.py:task")}


def test_a_strategy_of_ones_own_is_beside_the_file(tmp_path: Path) -> None:
    source = "import p2pfl\nclass Mine(p2pfl.Elementwise):\n    def combine(self): ..."
    write_task(tmp_path, source, "mine.py")
    [one] = plan(tmp_path, "[experiment]\nstrategy = 'mine.py:Mine'").runs
    assert one.run.places.strategy == f"{tmp_path / 'mine.py'}:Mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"compare\.toml is empty; `p2pfl experiment new FILE`"),
        ("[experiment]\nstrategy_args = 5\n[grid]\nstrategy = [{ name = 'krum' }]", r"\[grid\] strategy: 5 is given, and options by"),
        ("[experiment]\ntrack = 'csv:x.csv'", r"\[experiment\] track: .*give --track to the command"),
        ("[grid]\nattack = ['none', 'alie']", r"\[grid\] attack: attack 'alie' is given without attackers"),
        ("[experiment", r"compare\.toml is no TOML file: .*at end of document.*; correct that place"),
        ("[experiments]", r"\[experiments\]: there is no such section; the sections are \[experiment\] and"),
        ("grid = 3", r"compare\.toml, grid: it is no section; write \[grid\] on a line"),
        ("[experiment]\nround = 3", r"\[experiment\] round: there is no such option; did you mean 'rounds'"),
        ("[grid]\nxyzzy = [1]", r"\[grid\] xyzzy: there is no such option; the options are task,"),
        ("[grid]\nseed = 3", r"\[grid\] seed: 3 is no list; write the values to try, such as seed = \["),
        ("[grid]\nseed = []", r"\[grid\] seed: \[\] is no list"),
        ("[experiment]\nseed = 1\n[grid]\nseed = [2]", r"\[grid\] seed: \[experiment\] has seed too"),
        ("[grid]\nseed = [0, -1]", r"\[grid\] seed: seed is -1, and a whole number >= 0"),
        ("[experiment]\nlr = -1.0", r"\[experiment\] lr: lr is -1.0, and a number > 0"),
        ("[grid]\nstrategy = ['fedfoo']", r"\[grid\] strategy: There is no strategy 'fedfoo'"),
        ("[grid]\nstrategy = [{ mu = 1 }]", r"\[grid\] strategy: \{'mu': 1\} has no name; write"),
        ("[experiment]\nattack = 'alie'\nattack_args = { x = 1 }\nattackers = 1", r"\[experiment\] attack: .*no option 'x'"),
        ("[grid]\nseed = [" + ",".join(map(str, range(101))) + "]\nlr = [" + "0.1," * 100 + "]", "10100 combinations"),
    ],
)  # fmt: skip
def test_errors_name_the_file_and_the_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        plan(tmp_path, text)
    assert "compare.toml" in str(raised.value)


def test_a_missing_file_is_an_error_that_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No such file.*`p2pfl experiment new FILE` writes one"):
        read_experiment(tmp_path / "none.toml")
