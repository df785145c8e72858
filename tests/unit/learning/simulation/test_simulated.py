from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from p2pfl.errors import UserError
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.simulation.attack_specs import SignFlip
from p2pfl.learning.simulation.simulated import SimulatedRun, check_least, representative, vectorised_flaw
from p2pfl.strategy_specs import KrumSpec
from tests.support.learning import make_spec
from tests.support.simulated import quick_run, row


def test_a_run_is_the_same_after_its_way_through_text() -> None:
    places = DataPlaces(root=Path("/sets"), own=Path("/photos"), classes=("a", "b"))
    run = SimulatedRun(make_spec(), 4, places, "iid", 2, (0, 3), SignFlip(2.0), 5, "ray", "auto", 2, "cpu")
    assert SimulatedRun.from_text(run.to_text()) == run
    assert "\n" not in run.to_text()
    at_once = msgspec.structs.replace(run, vectorised=True)
    assert SimulatedRun.from_text(at_once.to_text()) == at_once
    assert "vectorised" not in run.to_text(), "or the results of older experiments are not found"


def test_an_engine_that_trains_single_clients_does_not_train_them_at_once() -> None:
    run = SimulatedRun(make_spec(), 10, engine="ray", vectorised=True)
    assert vectorised_flaw(run) == "the engine 'ray' trains one client after another"
    assert vectorised_flaw(msgspec.structs.replace(run, engine="local")) == ""


def test_a_round_tells_accuracy_and_loss_if_they_were_measured() -> None:
    assert (row(2).accuracy, row(2).loss) == (0.52, 1.0)
    assert (row(metrics={}).accuracy, row(metrics={}).loss) == (None, None)


def test_runs_that_differ_in_numbers_only_have_one_representative() -> None:
    first = representative(quick_run(clients=5, lr=0.1, seed=3, strategy="krum", attackers=1, attack="alie"))
    assert first == representative(quick_run(clients=5, rounds=7, epochs=2, batch_size=9, sample=3))
    for other in (
        {"clients": 6},
        {"partition": "shards:2"},
        {"strategy": "scaffold"},
        {"attack": "label-flip", "attackers": 1},
        {"personal": ["out.*"]},
        {"clip": 1.0},
    ):
        assert representative(quick_run(**{"clients": 5, **other})) != first, other


def test_a_division_that_may_be_impossible_by_chance_is_checked_for_each_seed() -> None:
    for partition, is_same in (("iid", True), ("dirichlet:0.5", True), ("labels:2", False)):
        first, second = (representative(quick_run(partition=partition, seed=seed)) for seed in (1, 2))
        assert (first == second) == is_same, partition


def test_a_round_needs_as_many_clients_as_the_strategy() -> None:
    run = SimulatedRun(make_spec(), 10, sample=4)
    check_least(run)
    krum = SimulatedRun(make_spec(strategy="krum", strategy_arg={"attackers": 1}), 10, sample=4)
    with pytest.raises(UserError, match=r"krum needs at least 5 updates .* 4 of 10 clients train in one"):
        check_least(krum)
    check_least(quick_run(clients=5, strategy="krum"))
    assert isinstance(quick_run(clients=5, strategy="krum").spec.strategy, KrumSpec)
