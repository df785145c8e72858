from __future__ import annotations

from p2pfl.net.dialling.sleep import SleepDetector


class Clocks:
    def __init__(self) -> None:
        self.wall, self.monotonic = 1_700_000_000.0, 50.0
        self.jumps: list[float] = []
        self.watch = SleepDetector(5.0, self.jumps.append, lambda: self.wall, lambda: self.monotonic)

    def advance(self, wall: float, monotonic: float) -> list[float]:
        self.wall += wall
        self.monotonic += monotonic
        self.watch.check()
        return self.jumps


def test_clocks_that_advance_together_are_no_sleep() -> None:
    clocks = Clocks()
    assert clocks.advance(1.0, 1.0) == []
    assert clocks.advance(3600.0, 3600.0) == [], "a busy process looked late"


def test_a_wall_clock_that_advanced_alone_is_one_sleep() -> None:
    clocks = Clocks()
    assert clocks.advance(601.0, 1.0) == [600.0]
    assert clocks.advance(1.0, 1.0) == [600.0]


def test_a_slowly_corrected_clock_is_no_sleep() -> None:
    clocks = Clocks()
    for _ in range(100):
        clocks.advance(1.1, 1.0)
    assert clocks.jumps == []


def test_a_wall_clock_set_back_counts_as_a_sleep() -> None:
    assert Clocks().advance(-3600.0, 1.0) == [-3601.0]
