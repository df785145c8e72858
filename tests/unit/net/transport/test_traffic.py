from __future__ import annotations

from p2pfl.net.transport.traffic import Meter, Traffic


def test_bytes_are_summed_by_kind_and_by_node_over_open_and_closed_connections() -> None:
    traffic = Traffic()
    closed, control, bulk = Meter(1, 2), Meter(10, 20), Meter(100, 200)
    traffic.watch("control", "ant", closed)
    traffic.settle(closed)
    traffic.watch("control", "bee", control)
    traffic.watch("bulk", "ant", bulk)
    assert traffic.total() == Meter(111, 222)
    assert traffic.total("control") == Meter(11, 22)
    assert traffic.total(node="ant") == Meter(101, 202)
    assert traffic.total("bulk", "bee") == Meter()


def test_an_open_connection_is_counted_continuously() -> None:
    traffic = Traffic()
    meter = Meter()
    traffic.watch("bulk", "ant", meter)
    meter.received += 5
    assert traffic.total() == Meter(0, 5)


def test_equal_meters_are_different_connections() -> None:
    traffic = Traffic()
    first, second = Meter(), Meter()
    traffic.watch("bulk", "ant", first)
    traffic.watch("bulk", "bee", second)
    traffic.settle(second)
    first.sent += 1
    second.sent += 7
    assert traffic.total(node="ant") == Meter(1, 0)
    assert traffic.total(node="bee") == Meter(0, 0)
