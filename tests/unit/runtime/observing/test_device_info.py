"""What a node tells of its device and data: known at once, told again only when it changed."""

from __future__ import annotations

from p2pfl import __version__, events
from p2pfl.cards import DataCard, LabelCount
from p2pfl.events import Published
from p2pfl.messages import DeviceInfo
from p2pfl.runtime.observing.device_info import OwnDeviceInfo

READY = events.WorkerReady("digits", "cuda", 100, 1000, 1.0)
PART = DataCard("digits", 40, (LabelCount("0", 30), LabelCount("1", 0), LabelCount("2", 10)))
SHOWN = events.DataShown(0, 5, PART)


class Stage:
    """The device info of "ada", which is linked with "ben", and who hears of it."""

    def __init__(self) -> None:
        self.published: list[events.AnyEvent] = []
        self.sent: list[tuple[str, DeviceInfo]] = []
        self.own = OwnDeviceInfo("a" * 52, "ada", self.published.append, self)

    def links(self) -> list[str]:
        return ["ben"]

    def send(self, node: str, message: DeviceInfo) -> None:
        self.sent.append((node, message))

    def take(self, *told: events.AnyEvent) -> None:
        for event in told:
            self.own.write(Published(1, 0.0, event))


def test_the_device_is_known_from_the_start_and_a_new_peer_is_told() -> None:
    stage = Stage()
    assert stage.sent == []
    stage.take(events.PeerLinked("cleo", "cleo", "h:1"))
    [(node, info)] = stage.sent
    assert node == "cleo"
    assert info.software == __version__
    assert info.system
    assert info.cores >= 1
    assert info.memory > 2**20
    assert (info.device, info.part) == ("", None)
    assert stage.published == []


def test_what_the_worker_finds_out_is_told_here_and_there() -> None:
    stage = Stage()
    stage.take(READY, SHOWN)
    assert [(node, one.device, one.part) for node, one in stage.sent] == [
        ("ben", "cuda", None),
        ("ben", "cuda", PART),
    ]
    stage.take(events.PeerLinked("cleo", "cleo", "h:1"))
    assert stage.sent[-1] == ("cleo", stage.sent[-2][1])
    last = stage.published[-1]
    assert isinstance(last, events.PeerDeviceInfo)
    assert (last.node, last.name, last.device, last.part) == ("a" * 52, "ada", "cuda", PART)
    assert (last.examples, last.labels) == (40, (30, 0, 10))


def test_what_did_not_change_is_not_told_again() -> None:
    stage = Stage()
    stage.take(READY, READY, events.Notice("info", "something else"))
    assert len(stage.sent) == len(stage.published) == 1
