from __future__ import annotations

from p2pfl.experiment.describe import describe_run
from tests.support.simulated import quick_run


def test_a_run_is_described_by_its_main_options() -> None:
    run = quick_run(clients=20, sample=8, attackers=3, attack="alie", strategy="krum", steps=5)
    assert describe_run(run) == (
        "digits, model 2nn, 20 clients, 8 of them in a round, iid, krum (attackers 2), 3 attackers, alie, "
        "2 rounds, 5 local steps, batches of 64, learning rate 0.05, momentum 0.9, seed 7"
    )


def test_what_varies_is_left_out() -> None:
    varied = (
        "task",
        "model",
        "clients",
        "fraction",
        "partition",
        "strategy",
        "attackers",
        "attack",
        "epochs",
    )
    run = quick_run(clients=20, sample=8, attackers=3, attack="alie", momentum=0)
    text = "2 rounds, batches of 64, learning rate 0.05"
    assert describe_run(run, (*varied, "seed")) == text
