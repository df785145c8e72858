from __future__ import annotations

from p2pfl.experiment import options
from p2pfl.learning.simulation.engine import ENGINES, open_engine
from p2pfl.learning.simulation.local_engine import LocalEngine
from tests.support.simulated import quick_federation


def test_the_engines_that_can_be_chosen_are_those_that_there_are() -> None:
    assert tuple(ENGINES) == options.ENGINES


def test_the_run_names_its_engine() -> None:
    opened = open_engine(quick_federation())
    assert isinstance(opened, LocalEngine)
    opened.close()
