"""Times to the first round are compared within a turn, with torch and without."""

from __future__ import annotations

from tests.bench.bench_first_round import Start
from tests.bench.peers.first_round import compared


def test_ratios_are_those_of_the_turns_and_have_a_budget() -> None:
    found = {
        ("p2pfl", False): [Start(1.0, 2.0), Start(3.0, 2.0), Start(2.0, 2.0)],
        ("Flower", False): [Start(2.0, 8.0), Start(2.0, 4.0), Start(2.5, 4.0)],
        ("p2pfl", True): [Start(6.0, 9.0)],
        ("Flower", True): [Start(4.0, 6.0)],
    }
    figures = {
        figure.what.removeprefix("process start to first round, "): figure for figure in compared(found)
    }
    assert figures["p2pfl, numpy"].value == 2.0
    assert figures["Flower, numpy: processor time"].value == 4.0
    assert figures["p2pfl / Flower, numpy"].value == 0.8  # of 0.5, 1.5 and 0.8
    assert figures["p2pfl / Flower, numpy"].verdict == "within"
    assert figures["p2pfl / Flower, numpy: processor time"].value == 0.5
    assert figures["p2pfl / Flower, torch"].verdict == "missed"
