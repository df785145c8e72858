from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.errors import UserError
from p2pfl.learning.strategy_choice import (
    BUILTIN_STRATEGIES,
    StrategyChoice,
    argument_texts,
    choose_strategy,
)
from p2pfl.spec import RunSpec
from p2pfl.strategy_specs import FedAdamSpec, OwnStrategySpec, TrimmedMeanSpec
from tests.support.learning import make_spec
from tests.support.user_tasks import write_task

OWN = """
    import p2pfl

    class Cautious(p2pfl.Elementwise):
        least_updates = 3
        slots = ("velocity",)

        def __init__(self, strength, *, decay=0.5):
            pass
"""


def spec_of(choice: StrategyChoice) -> RunSpec:
    return make_spec(**choice.options)


@pytest.mark.parametrize("name", ["trimmed-mean", "trimmed_mean", "Trimmed-Mean"])
def test_a_strategy_is_named_with_hyphens_or_underscores(name: str) -> None:
    choice = choose_strategy(name, ["attackers=2"])
    assert spec_of(choice).strategy == TrimmedMeanSpec(attackers=2)
    assert choice.code == ""


def test_arguments_are_numbers_of_the_types_of_the_strategy() -> None:
    choice = choose_strategy("fedadam", ["server-lr=1", "beta_1=0.5".replace("_1", "1"), "tau=1e-4"])
    strategy = spec_of(choice).strategy
    assert strategy == FedAdamSpec(server_lr=1.0, beta1=0.5, tau=1e-4)
    assert isinstance(strategy, FedAdamSpec)
    assert isinstance(strategy.server_lr, float)


def test_without_a_name_nothing_is_chosen() -> None:
    assert choose_strategy(None) == StrategyChoice()


@pytest.mark.parametrize("name", [*BUILTIN_STRATEGIES])
def test_every_default_of_a_strategy_can_be_given(name: str) -> None:
    texts = argument_texts(BUILTIN_STRATEGIES[name])
    given = choose_strategy(name, [f"{key}={text}" for key, text in texts.items()])
    assert spec_of(given).strategy == spec_of(choose_strategy(name)).strategy


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        (
            "fedadm",
            [],
            r"no strategy 'fedadm' \(did you mean 'fedadam'\?\).* fedavg, fedavgm, .* centred-clip",
        ),
        ("own", [], "no strategy 'own'"),
        ("fedprox", ["nu=1"], r"fedprox has no argument 'nu'.* with their defaults, are mu \(0\.01\)\."),
        ("fedadam", ["server_rl=1"], r"no argument 'server_rl' \(did you mean 'server_lr'\?\)"),
        ("fedavg", ["mu=1"], "fedavg has no argument 'mu'; it has none"),
        ("fedprox", ["mu=-1"], r"--strategy-arg mu=-1 is out of range: expected `float` >= 0"),
        ("krum", ["attackers=1.5"], "--strategy-arg attackers=1.5 is out of range: expected `int`"),
        ("fedprox", ["mu=nan"], "--strategy-arg mu is 'nan', and a number is expected"),
        ("fedprox", ["mu=high"], "--strategy-arg mu is 'high', and a number is expected"),
        ("fedprox", ["mu"], "--strategy-arg is 'mu', and KEY=VALUE is expected"),
        ("fedprox", ["mu=1", "mu=2"], "--strategy-arg mu is given twice"),
        (None, ["mu=1"], "--strategy-arg mu=1 needs a strategy: name it with --strategy"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(name: str | None, arguments: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words) as told:
        choose_strategy(name, arguments)
    assert str(told.value).endswith(".")


def test_a_class_in_a_file_is_read_without_executing_it(tmp_path: Path) -> None:
    path = write_task(tmp_path, f"{OWN}\n    raise RuntimeError\n")
    choice = choose_strategy(f"{path}:Cautious", ["strength=2", "decay=0.25"])
    assert spec_of(choice).strategy == OwnStrategySpec(
        "mine.py:Cautious", 3, ("velocity",), {"strength": 2.0, "decay": 0.25}
    )
    assert choice.code == f"{path}:Cautious"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "mine.py:Cautious needs the argument strength: give --strategy-arg strength=NUMBER"),
        (
            ["strong=1"],
            r"no argument 'strong' \(did you mean 'strength'\?\).* strength \(needed\), decay \(0\.5\)",
        ),
    ],
)
def test_arguments_of_a_class_are_checked(tmp_path: Path, arguments: list[str], words: str) -> None:
    path = write_task(tmp_path, OWN)
    with pytest.raises(UserError, match=words):
        choose_strategy(f"{path}:Cautious", arguments)


def test_attributes_out_of_range_are_named(tmp_path: Path) -> None:
    path = write_task(tmp_path, OWN.replace("updates = 3", "updates = 1000"))
    with pytest.raises(UserError, match="least_updates is out of range: expected `int` <= 256"):
        choose_strategy(f"{path}:Cautious", ["strength=1"])
