"""What a node tells of its device and data: known at once, told again only when it changed."""

from __future__ import annotations

from p2pfl import __version__, events
from p2pfl.events import Published
from p2pfl.messages import DeviceInfo
from p2pfl.runtime.device_info import OwnDeviceInfo
from p2pfl.spec import DataCard, LabelCount

READY = events.WorkerReady("digits", "cuda", 100, 1000, 1.0)
PART = DataCard("digits", 40, (LabelCount("0", 30), LabelCount("1", 0), LabelCount("2", 10)))
SHOWN = events.DataShown(0, 5, PART)


class Stage:
    """The facts of "ada", and who hears of them."""

    def __init__(self) -> None:
        self.published: list[events.AnyEvent] = []
        self.spread: list[DeviceInfo] = []
        self.own = OwnDeviceInfo("a" * 52, "ada", self.published.append, self.spread.append)

    def take(self, *told: events.AnyEvent) -> None:
        for event in told:
            self.own.write(Published(1, 0.0, event))


def test_the_device_is_known_from_the_start_and_told_to_nobody_by_itself():
    stage = Stage()
    assert stage.own.device_info.software == __version__
    assert stage.own.device_info.system
    assert stage.own.device_info.cores >= 1
    assert stage.own.device_info.memory > 2**20
    assert (stage.own.device_info.device, stage.own.device_info.part) == ("", None)
    assert stage.published == []
    assert stage.spread == []


def test_what_the_worker_finds_out_is_told_here_and_there():
    stage = Stage()
    stage.take(READY, SHOWN)
    assert [(one.device, one.part) for one in stage.spread] == [("cuda", None), ("cuda", PART)]
    assert stage.own.device_info == stage.spread[-1]
    last = stage.published[-1]
    assert isinstance(last, events.PeerDeviceInfo)
    assert (last.node, last.name, last.device, last.part) == ("a" * 52, "ada", "cuda", PART)
    assert (last.samples, last.labels) == (40, (30, 0, 10))


def test_what_did_not_change_is_not_told_again():
    stage = Stage()
    stage.take(READY, READY, events.Notice("info", "something else"))
    assert len(stage.spread) == len(stage.published) == 1
