from __future__ import annotations

from pathlib import Path

from p2pfl import events
from p2pfl.events import AnyEvent
from p2pfl.monitoring.health import report, why_not_alive, why_not_ready
from p2pfl.monitoring.place import DataPlace
from tests.support.monitored import JOINED, READY, RUNNING, STARTED, committed, folded, linked
from tests.support.records import node

LOST = [events.PeerLost(node(name), name, "closed") for name in ("ben", "cleo")]


def reasons(path: Path, *happened: AnyEvent) -> list[str]:
    return list(why_not_ready(folded(*happened), DataPlace(path)))


def test_a_node_in_a_run_or_waiting_for_one_is_ready(tmp_path: Path) -> None:
    assert reasons(tmp_path, *RUNNING) == []
    assert reasons(tmp_path, STARTED, READY, events.Waiting(1, 3, "1 of 3 nodes are here")) == []
    finished = events.RunEnded("ab" * 32, 10, "cd" * 32, {})
    assert reasons(tmp_path, *RUNNING, committed(10), finished, *LOST) == [], "it serves the others"


def test_what_loads_is_not_ready_yet(tmp_path: Path) -> None:
    [starts, loads] = reasons(tmp_path, STARTED)
    assert "neither is in a run nor waits" in starts
    assert loads == "the worker is not ready: it still loads the task and its data"


def test_a_failed_worker_is_told_with_its_reason(tmp_path: Path) -> None:
    [reason] = reasons(tmp_path, *RUNNING, events.WorkerFailed("killed\nfor memory"))
    assert reason == "the worker failed: killed?for memory"


def test_data_that_do_not_fit_are_no_waiting_by_design(tmp_path: Path) -> None:
    waiting = events.Waiting(3, 3, "pi has other columns", is_mismatch=True)
    assert reasons(tmp_path, STARTED, READY, waiting) == ["no run can start: pi has other columns"]


def test_a_lost_quorum_and_missing_links_are_told(tmp_path: Path) -> None:
    quorum = "there is no quorum: 1 of 3 members are reachable, 2 are needed"
    assert reasons(tmp_path, *RUNNING, *LOST) == [
        "no other node is linked, and the run has 2 other members",
        quorum,
    ]
    assert reasons(tmp_path, STARTED, READY, linked("eve"), JOINED) == [quorum]


def test_a_data_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    assert reasons(tmp_path / "gone", *RUNNING) == [
        f"the data directory {tmp_path}/gone cannot be written to"
    ]


def test_a_node_that_ends_is_neither_alive_nor_ready(tmp_path: Path) -> None:
    ended = events.Ended(7, "the disk is full")
    assert why_not_alive(folded(*RUNNING)) == ""
    assert why_not_alive(folded(*RUNNING, ended)) == "the node ends with exit code 7: the disk is full"
    assert reasons(tmp_path / "gone", *RUNNING, ended) == ["the node ends with exit code 7: the disk is full"]


def test_the_report_says_what_the_reasons_are_made_of() -> None:
    assert report(folded(*RUNNING, committed(2)), ["why"]) == {
        "ready": False,
        "reasons": ["why"],
        "phase": "running",
        "worker": "ready",
        "round": 2,
        "rounds": 10,
        "members": 3,
        "reachable": 3,
        "needed": 2,
    }
