from __future__ import annotations

from typer.testing import CliRunner

from p2pfl.cli import app
from p2pfl.learning.strategy_choice import BUILTIN_STRATEGIES


def test_every_strategy_is_listed_with_its_arguments_and_what_it_needs() -> None:
    shown = CliRunner().invoke(app, ["strategies"])
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert {line.split()[0] for line in lines if line[:1].islower()} >= set(BUILTIN_STRATEGIES)
    text = " ".join(shown.output.split())
    assert "fedadam Adam on the mean change of the updates (Reddi et al. 2021, algorithm 2)." in text
    assert "Arguments: server_lr=0.1, beta1=0.9, beta2=0.99, tau=0.001." in text
    assert "Arguments: attackers=1. Needs 5 updates in a round, more with more attackers." in text
    assert max(map(len, lines)) <= 100
