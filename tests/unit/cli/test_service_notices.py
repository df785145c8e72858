"""What a service manager is told of a node's events."""

from __future__ import annotations

import pytest

from p2pfl import events, systemd
from p2pfl.cli.service_notices import tell_service_manager
from p2pfl.events import Published
from p2pfl.exit_codes import ExitCode

STARTED = events.Started("ada", "a" * 52, "lab", "127.0.0.1:9000", "run", 1.0)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(systemd, "notify", lambda *states: found.extend(states))
    return found


def test_a_node_that_listens_is_ready_and_says_where(told: list[str]) -> None:
    tell_service_manager(Published(1, 0.0, STARTED))
    assert told[0] == systemd.READY
    assert "listens on 127.0.0.1:9000" in told[1]


def test_a_node_that_ends_says_so_with_its_reason(told: list[str]) -> None:
    tell_service_manager(Published(1, 0.0, events.Ended(ExitCode.LEFT, "SIGTERM")))
    assert told == [systemd.STOPPING, "STATUS=ended: SIGTERM"]


def test_what_it_waits_for_is_its_status(told: list[str]) -> None:
    tell_service_manager(Published(1, 0.0, events.Waiting(1, 3, "1 of 3 nodes are here")))
    assert told == ["STATUS=waiting: 1 of 3 nodes are here"]


def test_what_is_old_news_a_minute_later_is_no_status(told: list[str]) -> None:
    tell_service_manager(Published(1, 0.0, events.ProgressMade(1, "train", 1, 2)))
    tell_service_manager(Published(1, 0.0, events.Notice("warning", "x")))
    assert told == []
