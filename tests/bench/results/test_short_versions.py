"""Short versions of the published results: fewer rounds, on the digits, with one seed of those measured.

Ten clients train the network 2NN with batches of 32 and momentum 0.9. What the tests demand is less than the
smallest difference over the seeds 1 to 6, whose bands the tests state.
"""

from __future__ import annotations

from typing import Any

import pytest

import p2pfl

pytestmark = pytest.mark.long


def accuracies(strategy: str, partition: str, rounds: int, **options: Any) -> list[float]:
    """Return the accuracy of the model of each round."""
    result = p2pfl.simulate(
        "digits", clients=10, rounds=rounds, seed=2, model="2nn", partition=partition, strategy=strategy,
        batch_size=32, momentum=0.9, device="cpu", workers=1, progress=False, **options,
    )  # fmt: skip
    return [row.metrics["accuracy"] for row in result.history]


def test_two_labels_a_client_cost_fedavg_accuracy() -> None:
    """As in niid_bench. Best of 10 rounds: `iid` 0.922 to 0.931, `labels:2` 0.622 to 0.764; here 0.925, 0.728."""
    iid, skewed = (
        max(accuracies("fedavg", partition, 10, epochs=3, lr=0.05)) for partition in ("iid", "labels:2")
    )
    assert iid > 0.9
    assert 0.5 < skewed < iid - 0.1


def test_momentum_of_the_server_learns_faster_than_fedavg_where_labels_differ() -> None:
    """As in the comparison of server optimizers, on `dirichlet:0.1`.

    After 10 rounds: FedAvg 0.583 to 0.814, FedAvgM 0.789 to 0.883, a gain of 0.069 to 0.206 with the same
    seed; here 0.631 and 0.833.
    """
    plain, moving = (
        accuracies(name, "dirichlet:0.1", 10, epochs=2, lr=0.02)[-1] for name in ("fedavg", "fedavgm")
    )
    assert moving > 0.75
    assert moving > plain + 0.05


def test_median_and_multi_krum_hold_against_two_gaussian_attackers_and_fedavg_does_not() -> None:
    """As in the comparison with attackers, with the standard deviation 1.

    After 8 rounds: FedAvg 0.728 to 0.889, median 0.908 to 0.925, Multi-Krum 0.914 to 0.925, a gain of both of
    at least 0.033 with the same seed; here 0.728, 0.911 and 0.914.
    """
    attackers: dict[str, Any] = {"attackers": 2, "attack": "gaussian", "epochs": 3, "lr": 0.05}
    mean = accuracies("fedavg", "iid", 8, **attackers)[-1]
    median = accuracies("median", "iid", 8, **attackers)[-1]
    krum = accuracies("multi-krum", "iid", 8, strategy_args={"attackers": 2}, **attackers)[-1]
    assert min(median, krum) > 0.89
    assert min(median, krum) > mean + 0.03
