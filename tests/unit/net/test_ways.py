from __future__ import annotations

from p2pfl.net.ways import HEAD_START_SECONDS, MAX_NODES, PROBE_SECONDS, Plan, Ways

DIAL_FIRST = Plan(("dial", "call"), HEAD_START_SECONDS)


def test_an_unknown_node_is_dialled_first() -> None:
    assert Ways().plan("ant", 0.0) == DIAL_FIRST


def test_a_node_that_was_called_with_success_is_called_first_without_waiting_for_a_dial() -> None:
    ways = Ways()
    ways.worked("ant", "call", 100.0)
    assert ways.plan("ant", 100.0 + PROBE_SECONDS - 1) == Plan(("call", "dial"), HEAD_START_SECONDS)
    assert ways.plan("bee", 100.0) == DIAL_FIRST


def test_now_and_then_both_are_tried_at_once() -> None:
    ways = Ways()
    ways.worked("ant", "call", 100.0)
    assert ways.plan("ant", 100.0 + PROBE_SECONDS) == Plan(("dial", "call"), 0.0)


def test_a_dial_that_worked_puts_the_dial_first_again_and_so_does_a_dialled_link() -> None:
    ways = Ways()
    ways.worked("ant", "call", 100.0)
    ways.worked("ant", "dial", 101.0)
    assert ways.plan("ant", 102.0) == DIAL_FIRST
    ways.worked("ant", "call", 100.0)
    ways.forget("ant")
    assert ways.plan("ant", 102.0) == DIAL_FIRST


def test_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    ways = Ways()
    for number in range(MAX_NODES + 1):
        ways.worked(str(number), "call", 0.0)
    assert ways.plan("0", 1.0) == DIAL_FIRST
    assert ways.plan("1", 1.0) != DIAL_FIRST
