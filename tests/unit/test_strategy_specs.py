from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from p2pfl.spec import record_roles, update_roles, with_options
from p2pfl.strategy_specs import (
    BulyanSpec,
    CentredClippingSpec,
    DittoSpec,
    FedAdamSpec,
    FedAvgSpec,
    FedDynSpec,
    FedNovaSpec,
    FedProxSpec,
    GeometricMedianSpec,
    KrumSpec,
    MedianSpec,
    MultiKrumSpec,
    NormClippingSpec,
    OwnStrategySpec,
    QFedAvgSpec,
    ScaffoldSpec,
    StrategySpec,
    TrimmedMeanSpec,
    control_slots,
    least_updates,
    memory_slots,
    state_slots,
    strategy_name,
    trains_differently,
)
from tests.support.learning import SPEC

OWN = OwnStrategySpec("mine.py:Cautious", least=4, slots=("speed", "mass"), options={"rate": 0.5})
KINDS = get_args(StrategySpec)
SPECS: list[StrategySpec] = [OWN, *(kind() for kind in KINDS if kind is not OwnStrategySpec)]


@pytest.mark.parametrize("strategy", SPECS, ids=strategy_name)
def test_a_strategy_survives_its_encoding(strategy: StrategySpec) -> None:
    encoded = msgspec.json.encode(strategy)
    assert msgspec.json.decode(encoded, type=StrategySpec) == strategy


@pytest.mark.parametrize("strategy", SPECS, ids=strategy_name)
def test_defaults_are_no_part_of_the_encoding(strategy: StrategySpec) -> None:
    if strategy is not OWN:
        assert msgspec.to_builtins(strategy) == {"type": strategy_name(strategy)}


@pytest.mark.parametrize("strategy", SPECS, ids=strategy_name)
def test_the_functions_know_every_strategy(strategy: StrategySpec) -> None:
    assert least_updates(strategy) >= 1
    for slots in (state_slots(strategy), control_slots(strategy), memory_slots(strategy)):
        assert len(set(slots)) == len(slots)
    spec = msgspec.structs.replace(SPEC, strategy=strategy)
    assert record_roles(spec) == (("model", "state") if state_slots(strategy) else ("model",))
    assert update_roles(spec) == (("update", "control") if control_slots(strategy) else ("update",))


def test_names_are_those_of_the_command_line() -> None:
    names = [strategy_name(strategy) for strategy in SPECS]
    assert len(set(names)) == len(names) == len(KINDS)
    assert {"fedavg", "q-fedavg", "multi-krum", "mine.py:Cautious"} <= set(names)


@pytest.mark.parametrize(
    ("strategy", "least"),
    [
        (FedAvgSpec(), 1),
        (NormClippingSpec(), 1),
        (MedianSpec(), 3),
        (GeometricMedianSpec(), 3),
        (TrimmedMeanSpec(attackers=0), 1),
        (TrimmedMeanSpec(attackers=2), 5),
        (KrumSpec(attackers=1), 5),
        (MultiKrumSpec(attackers=2), 7),
        (BulyanSpec(attackers=1), 7),
        (OWN, 4),
    ],
)
def test_the_least_number_of_updates_is_what_the_theory_needs(strategy: StrategySpec, least: int) -> None:
    assert least_updates(strategy) == least


def test_only_control_variates_travel_with_updates() -> None:
    assert [type(one) for one in SPECS if control_slots(one)] == [ScaffoldSpec]


def test_devices_remember_only_for_scaffold_and_feddyn() -> None:
    assert {type(one) for one in SPECS if memory_slots(one)} == {ScaffoldSpec, FedDynSpec}


def test_slots_of_the_state_are_those_of_the_strategy() -> None:
    assert state_slots(FedAdamSpec()) == ("first", "second")
    assert state_slots(CentredClippingSpec()) == ("centre",)
    assert state_slots(FedNovaSpec()) == ()
    assert state_slots(OWN) == ("speed", "mass")


def test_strategies_that_change_local_training_are_known() -> None:
    found = {type(one) for one in SPECS if trains_differently(one)}
    assert found == {FedProxSpec, ScaffoldSpec, FedDynSpec, QFedAvgSpec, DittoSpec}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fedadam", {"beta2": 1.0}),
        ("fedadam", {"tau": 0.0}),
        ("fedavgm", {"server_momentum": -0.1}),
        ("q-fedavg", {"q": -1.0}),
        ("fedprox", {"mu": -1.0}),
        ("feddyn", {"alpha": 0.0}),
        ("krum", {"attackers": 128}),
        ("fedavg", {"mu": 1.0}),
    ],
)
def test_an_option_out_of_bounds_or_of_another_strategy_is_refused(
    name: str, options: dict[str, float]
) -> None:
    with pytest.raises(msgspec.ValidationError):
        with_options(SPEC, strategy=name, strategy_arg=options)
