from __future__ import annotations

import pytest

from tests.bench.peers.figures import NODES, Outcome, figures
from tests.bench.peers.sampling import Sample
from tests.bench.peers.world import Mark
from tests.bench.synthetic import parameters

MODEL_BYTES = 4 * parameters("11m")
UNIT_BYTES = 2 * (NODES - 1) * MODEL_BYTES
MEGABYTE = 1_000_000


def an_outcome(model: str = "11m") -> Outcome:
    """Three rounds of 10 s from second 100 on, of which members work 1, 2 and 3 s; a member starts at 96."""
    marks = [Mark("base", 95.0, 1)]
    for number, begin in enumerate((100.0, 110.0, 120.0), start=1):
        for pid in (11, 12):
            marks += [Mark("begin", begin + 1, pid), Mark("end", begin + 1 + number * (pid == 12), pid)]
    samples = [
        Sample(90.0 + 5 * number, 7 + number * UNIT_BYTES // 2, {"server": 0, "ada": 70 * MEGABYTE})
        for number in range(9)
    ]
    for number, models in enumerate((9, 1, 1, 4, 1, 1, 1, 1, 1)):  # nine models are before it had a base
        samples[number].resident_bytes["server"] = models * MODEL_BYTES
    return Outcome(
        model=model,
        began=90.0,
        idle_at=96.0,
        boundaries=(100.0, 110.0, 120.0, 130.0),
        marks=tuple(sorted(marks, key=lambda mark: mark.at)),
        samples=samples,
        members=("ada",),
        aggregators={"server": 95.0},
    )


def by_kind(outcome: Outcome) -> dict[str, float]:
    return {figure.what.partition(",")[0]: figure.value for figure in figures(outcome, "")}


def test_overhead_is_a_round_less_its_longest_work_and_the_first_round_is_left_out() -> None:
    assert by_kind(an_outcome())["round overhead"] == pytest.approx((8.0 + 7.0) / 2)


def test_traffic_is_told_in_units_of_what_has_to_move() -> None:
    assert by_kind(an_outcome())["bytes of a round"] == pytest.approx(1.0, rel=1e-6)


def test_the_peak_counts_from_the_base_on() -> None:
    assert by_kind(an_outcome())["aggregator's peak memory"] == 3.0


def test_the_smallest_model_tells_of_starting_and_idling_instead_of_memory() -> None:
    found = by_kind(an_outcome("0.4m"))
    assert found["process start to first round"] == 11.0
    assert found["memory of an idle node"] == 70.0
    assert "aggregator's peak memory" not in found
