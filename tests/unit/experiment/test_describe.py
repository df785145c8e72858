from __future__ import annotations

from p2pfl.experiment.describe import describe_common, describe_run, describe_sizes
from tests.support.simulated import quick_run


def test_a_run_is_described_by_its_main_options() -> None:
    run = quick_run(clients=20, sample=8, attackers=3, attack="alie", strategy="krum", steps=5)
    assert describe_run(run) == (
        "digits, model 2nn, 20 clients, 8 of them in a round, iid, krum (attackers 2), 3 attackers, alie, "
        "2 rounds, 5 local steps, batches of 64, learning rate 0.05, momentum 0.9, seed 7"
    )


def test_only_what_is_equal_in_all_runs_is_told_of_all() -> None:
    runs = [
        quick_run(clients=10, fraction=0.2),
        quick_run(clients=10, fraction=0.2, strategy="krum", attackers=2, attack="alie", momentum=0),
        quick_run(clients=10, fraction=0.2, strategy="krum", steps=5, seed=8),
    ]
    assert describe_common(runs) == (
        "digits, model 2nn, 10 clients, iid, 2 rounds, batches of 64, learning rate 0.05"
    )
    assert describe_common(runs[:1]) == describe_run(runs[0])


def test_a_fraction_that_is_another_number_for_another_strategy_is_told() -> None:
    runs = [quick_run(clients=10, fraction=0.2, strategy=name) for name in ("fedavg", "median", "krum")]
    assert describe_sizes(runs, ("strategy",)) == "2, 3 or 5 clients train in a round, as the strategy needs"
    assert describe_sizes(runs[:1] * 2, ("strategy",)) == ""
    assert describe_sizes([quick_run(clients=4), quick_run(clients=5)], ("clients",)) == ""
