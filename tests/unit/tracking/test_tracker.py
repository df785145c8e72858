from __future__ import annotations

from p2pfl.spec import to_options, with_options
from p2pfl.tracking.tracker import TrackedRun
from tests.support.records import SPEC


def test_a_run_is_named_by_its_id_and_by_the_node_that_writes() -> None:
    run = TrackedRun("0123456789abcdef", "ada", SPEC)
    assert run.label == "01234567-ada"


def test_the_options_of_a_run_are_texts() -> None:
    options = TrackedRun("0123", "ada", SPEC).options
    assert options["rounds"] == str(SPEC.rounds)
    assert options.keys() == to_options(SPEC).keys() - {"strategy_arg"}
    assert all(isinstance(value, str) for value in options.values())


def test_the_arguments_of_a_strategy_are_options_of_their_own() -> None:
    spec = with_options(SPEC, strategy="fedadam", strategy_arg={"server_lr": 0.05})
    options = TrackedRun("0123", "ada", spec).options
    assert (options["strategy"], options["strategy.server_lr"]) == ("fedadam", "0.05")
