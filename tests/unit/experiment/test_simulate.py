from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import p2pfl
from p2pfl.errors import UserError
from p2pfl.learning.simulation.simulated import SimulatedRound
from tests.support.simulated import QUICK
from tests.support.user_tasks import write_task


def test_a_robust_strategy_learns_digits_among_attackers() -> None:
    accuracy = p2pfl.simulate(
        "digits", clients=10, rounds=8, seed=3, partition="iid", strategy="multi-krum", attackers=2,
        attack="sign-flip",
    ).history[-1].metrics["accuracy"]  # fmt: skip
    assert accuracy > 0.88


def rounds_to_nine_tenths(**options: Any) -> int:
    result = p2pfl.simulate(
        "digits", model="2nn", clients=20, sample=5, rounds=120, seed=1, partition="iid", lr=0.3, momentum=0.0,
        until="accuracy=0.9", **options,
    )  # fmt: skip
    assert result.history[-1].metrics["accuracy"] >= 0.9
    return len(result.history)


def test_local_epochs_and_batches_take_fewer_rounds_than_fedsgd() -> None:
    # McMahan et al. 2017, table 2. Over seeds 1 to 8: 61 to 72, 14 to 17, and 3 to 5 rounds.
    fedsgd = rounds_to_nine_tenths(epochs=1, batch_size=1000)
    assert 50 <= fedsgd <= 85
    assert rounds_to_nine_tenths(epochs=5, batch_size=1000) <= fedsgd / 3
    assert rounds_to_nine_tenths(epochs=5, batch_size=10) <= fedsgd / 8


def model() -> nn.Module:
    return nn.Linear(3, 2)


def data() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()


def test_a_task_is_an_object_a_file_or_a_name(tmp_path: Path) -> None:
    options: dict[str, Any] = {"clients": 3, "rounds": 3, "lr": 0.5, "device": "cpu"}
    of_object = p2pfl.simulate(p2pfl.Task(model=model, data=data), **options)
    assert of_object.history[-1].metrics["accuracy"] > 0.7
    assert of_object.model.classes == ("0", "1")
    source = """
    import torch
    from torch import nn
    def model(): return nn.Linear(3, 2)
    def data():
        x = torch.randn(100, 3, generator=torch.Generator().manual_seed(1))
        return x, (x[:, 0] > 0).long()
    """
    of_file = p2pfl.simulate(write_task(tmp_path, source), **options)
    assert of_file.digest == of_object.digest


@pytest.mark.parametrize("workers", [1, 2])
def test_clients_trained_at_once_make_nearly_the_same_model(workers: int) -> None:
    options: dict[str, Any] = {"clients": 5, "rounds": 3, "lr": 0.5, "device": "cpu", "workers": workers}
    task = p2pfl.Task(model=model, data=data)
    alone, at_once = (p2pfl.simulate(task, **options, vectorised=choice) for choice in (False, True))
    wanted, found = alone.model.module.state_dict(), at_once.model.module.state_dict()
    for name, value in wanted.items():
        assert ((found[name] - value).abs().max() / value.abs().max()).item() < 1e-5
    assert at_once.history[-1].training_loss == pytest.approx(alone.history[-1].training_loss, rel=1e-5)
    assert at_once.history[-1].clients == (0, 1, 2, 3, 4)


def test_random_numbers_and_threads_of_the_program_stay() -> None:
    torch.manual_seed(5)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    p2pfl.simulate(**QUICK)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads


def test_progress_is_a_line_or_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[SimulatedRound] = []
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    result = p2pfl.simulate(**QUICK, progress=rows.append)
    assert rows == result.history
    assert stream.getvalue() == ""
    p2pfl.simulate(**QUICK, progress=True)
    assert "round 2 of 2, accuracy" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[2K")


def test_rounds_are_tracked(tmp_path: Path) -> None:
    p2pfl.simulate(**QUICK, track=f"csv:{tmp_path / 'values.csv'}")
    assert (tmp_path / "values.csv").read_text().count(",accuracy,") == 2


def test_a_wrong_option_is_named() -> None:
    with pytest.raises(UserError, match="no option 'epoch'; did you mean 'epochs'"):
        p2pfl.simulate("digits", epoch=3)
