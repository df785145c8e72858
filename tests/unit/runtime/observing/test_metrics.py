"""What observers are told several times a second: only changes, and nothing while nobody watches."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import msgspec
import psutil
import pytest

from p2pfl import events
from p2pfl.net.transport.traffic import Meter, Traffic
from p2pfl.runtime.observing import metrics
from p2pfl.runtime.observing.metrics import SAMPLES_PER_MEASUREMENT, MetricsSampler
from p2pfl.runtime.observing.system_info import Usage
from tests.support.core import context, ledger, link, member, status, unlink
from tests.support.records import node

TRAINING = status(phase="training", progress=0.25, predicted=2.0)


class Stage:
    """Node "ada" with peers "ben" (linked, has spoken) and "cleo" (has not)."""

    def __init__(self) -> None:
        self.ctx = context("ada", linked=())
        link(self.ctx, "ben", status(phase="idle"))
        link(self.ctx, "cleo")
        self.own = TRAINING
        self.traffic = Traffic()
        self.rtts: dict[str, float] = {node("ben"): 0.002}
        self.told: list[events.AnyEvent] = []
        self.is_watched = True
        self.worker: int | None = None
        self.node = SimpleNamespace(ledger=ledger(self.ctx), peers=self.ctx.peers, status=lambda: self.own)
        mesh = SimpleNamespace(
            links=lambda: {one: None for one, peer in self.ctx.peers.items() if peer.linked},
            traffic=self.traffic,
            rtt=self.rtts.get,
        )
        made: Any = MetricsSampler
        self.it = made(
            self.node,
            member("ada"),
            "ada",
            mesh,
            self.told.append,
            lambda: self.is_watched,
            lambda: self.worker,
        )

    def look(self, now: float = 0.0) -> list[events.AnyEvent]:
        """Return what one look tells."""
        self.told.clear()
        self.it.sample(now)
        return list(self.told)

    def measure(self, now: float = 0.0) -> events.Measured:
        """Look until it measures; return what it measured at *now*."""
        for _ in range(SAMPLES_PER_MEASUREMENT):
            found = [event for event in self.look(now) if isinstance(event, events.Measured)]
        [measured] = found
        return measured


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_look_tells_of_this_node_and_of_linked_peers_that_have_spoken(stage: Stage) -> None:
    mine, bens = stage.look()
    assert mine == events.PeerStatus(node("ada"), "ada", "", 0, False, "training", 0.25, 2.0, 2, True, False)
    assert isinstance(bens, events.PeerStatus)
    assert (bens.node, bens.name, bens.phase, bens.is_member) == (node("ben"), "ben", "idle", True)


def test_only_what_changed_is_told_again(stage: Stage) -> None:
    stage.look()
    assert [event for event in stage.look() if not isinstance(event, events.Measured)] == []
    stage.own = msgspec.structs.replace(TRAINING, progress=0.5)
    [told] = [event for event in stage.look() if isinstance(event, events.PeerStatus)]
    assert (told.name, told.progress) == ("ada", 0.5)


def test_a_peer_whose_link_is_down_has_no_status(stage: Stage) -> None:
    unlink(stage.ctx, "ben")
    assert [event.name for event in stage.look() if isinstance(event, events.PeerStatus)] == ["ada"]


def test_who_is_not_in_the_roster_is_no_member(stage: Stage) -> None:
    link(stage.ctx, "eve", status())
    told = {event.name: event.is_member for event in stage.look() if isinstance(event, events.PeerStatus)}
    assert told == {"ada": True, "ben": True, "eve": False}
    stage.node.ledger = None
    assert {event.is_member for event in stage.look() if isinstance(event, events.PeerStatus)} == {False}


def test_while_nobody_watches_nothing_is_done(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.is_watched = False
    monkeypatch.setattr(stage.node, "status", lambda: pytest.fail("it was asked for its status"))
    monkeypatch.setattr(psutil.Process, "cpu_times", lambda _: pytest.fail("the processor was looked at"))
    for _ in range(3 * SAMPLES_PER_MEASUREMENT):
        assert stage.look() == []


def test_a_scrape_samples_and_measures_although_nobody_watches(stage: Stage) -> None:
    stage.is_watched = False
    stage.it.sample_now(0.0)
    assert [type(event) for event in stage.told] == [events.PeerStatus, events.PeerStatus, events.Measured]


def test_who_watches_after_a_while_is_told_all_again(stage: Stage) -> None:
    before = stage.look()
    stage.is_watched = False
    stage.look()
    stage.is_watched = True
    assert stage.look() == before


def test_traffic_and_round_trips_are_those_of_each_link(stage: Stage) -> None:
    stage.traffic.watch("control", node("ben"), Meter(10, 20))
    stage.traffic.watch("bulk", node("ben"), Meter(1000, 2000))
    assert stage.measure().links == (
        events.LinkMeasure(node("ben"), 0.002, 1010, 2020),
        events.LinkMeasure(node("cleo"), None, 0, 0),
    )


def test_processor_time_is_a_rate_since_the_last_measurement(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = [0.0]
    monkeypatch.setattr(metrics, "usage_of", lambda pid: Usage(used[0], 1000 * pid))
    assert stage.measure(10.0).cpu == 0.0, "nothing to compare with"
    used[0] = 0.5
    assert stage.measure(12.0).cpu == 0.25
    stage.worker = os.getppid()
    used[0] = 1.0
    measured = stage.measure(13.0)
    assert measured.cpu == 1.5, "0.5 s of the node and 1 s of its worker, in 1 s"
    assert measured.memory == 1000 * (os.getpid() + os.getppid())
    stage.worker = None
    assert stage.measure(14.0).cpu == 0.0, "a worker that ended takes its time with it"


def test_a_worker_that_has_just_ended_does_no_harm(stage: Stage) -> None:
    stage.worker = 2**22 + 1
    assert stage.measure().memory > 2**20


def test_memory_is_this_process_and_its_worker(stage: Stage) -> None:
    alone = stage.measure().memory
    stage.worker = os.getpid()
    assert stage.measure().memory > 1.5 * alone
