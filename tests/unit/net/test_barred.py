from __future__ import annotations

from p2pfl.net.barred import FACTOR, MAX_NODES, MOST_SECONDS, Barred


def test_a_node_rests_several_times_as_long_as_its_failed_try_took() -> None:
    barred = Barred()
    barred.failed("ant", "no answer", 103.0, 105.0)
    assert barred.reason("ant", 105.0 + 2 * FACTOR - 0.1) == "no answer"
    assert barred.reason("ant", 105.0 + 2 * FACTOR) is None
    assert barred.reason("bee", 105.0) is None


def test_a_quick_failure_bars_nobody_unless_a_least_rest_is_wanted() -> None:
    eager, calm = Barred(), Barred(1.0)
    for barred in (eager, calm):
        barred.failed("ant", "refused", 100.0, 100.0)
    assert eager.reason("ant", 100.0) is None
    assert calm.reason("ant", 100.9) == "refused"
    assert calm.reason("ant", 101.0) is None


def test_nobody_rests_for_ever_and_a_forgotten_node_not_at_all() -> None:
    barred = Barred()
    barred.failed("ant", "no answer", 0.0, 1000.0)
    assert barred.reason("ant", 1000.0 + MOST_SECONDS) is None
    barred.failed("ant", "no answer", 0.0, 1000.0)
    barred.forget("ant")
    assert barred.reason("ant", 1000.0) is None


def test_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    barred = Barred(9.0)
    for number in range(MAX_NODES + 1):
        barred.failed(str(number), "refused", 0.0, 0.0)
    assert barred.reason("0", 0.0) is None
    assert barred.reason("1", 0.0) == "refused"
