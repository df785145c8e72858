"""A link delivers received frames, sends queued ones, measures the round trip, and ends with a reason."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial

import msgspec
import pytest

from p2pfl.config import NetSettings
from p2pfl.messages import Decline, Member, Offer, RecordsRequest
from p2pfl.net.links import link as module
from p2pfl.net.links.link import DeliveredFrame, Link
from p2pfl.net.links.peers import LinkedPeer
from p2pfl.wire.codec import ControlFrame, decode, encode
from p2pfl.wire.frames import FrameDecoder, encode_frame
from p2pfl.wire.links import Bye, Ping, Pong, Ready, Refusal
from tests.support.meshes import WAIT_SECONDS, until
from tests.support.records import genesis
from tests.support.transports import NearEnd

MAX_BYTES = NetSettings().max_frame_bytes
QUIET = NetSettings(ping_seconds=60, silence_seconds=60)
"""No ping and no silence deadline during a test."""
ASK = RecordsRequest("0" * 64, 1)
PEER = LinkedPeer(Member("b" * 52, "1" * 32), "ben", "node", "h:1", 1, "2" * 32)


def framed(*frames: ControlFrame) -> bytes:
    """Return the encoded *frames*."""
    return b"".join(encode_frame(encode(frame), MAX_BYTES) for frame in frames)


class CountedEnd(NearEnd):
    """Records each write, may be full after each, and may break."""

    def __init__(self, max_frame_bytes: int) -> None:
        super().__init__(max_frame_bytes)
        self.writes: list[bytes] = []
        self.fills_up = False
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        self.writes.append(bytes(data))
        if self.fills_up:
            self.stop_reading()

    def abort(self) -> None:
        self.is_aborted = True
        super().abort()

    def breaks(self, error: OSError) -> None:
        """Break the connection."""
        self._protocol.connection_lost(error)


class Stage:
    """A link, and the peer at its other end."""

    def __init__(self, settings: NetSettings) -> None:
        self.near = CountedEnd(MAX_BYTES)
        self.handled: list[DeliveredFrame] = []
        self.fault: Exception | None = None
        """Raised by the handler of frames."""
        self.link = Link(self.near.stream, PEER, 1, settings, self._handle)
        self.running: asyncio.Task[str] | None = None

    def run(self) -> asyncio.Task[str]:
        """Start to run the link."""
        self.running = asyncio.create_task(self.link.run())
        return self.running

    async def reason(self) -> str:
        """Wait until the link has ended; return the reason."""
        assert self.running is not None
        return await asyncio.wait_for(self.running, WAIT_SECONDS)

    def _handle(self, _link: Link, frame: DeliveredFrame) -> None:
        self.handled.append(frame)
        if self.fault is not None:
            raise self.fault

    @property
    def frames(self) -> list[ControlFrame]:
        """The frames sent to the peer."""
        return [decode(body) for body in FrameDecoder(MAX_BYTES).feed(self.near.written)]

    @property
    def talk(self) -> list[ControlFrame]:
        """The same without pings."""
        return [frame for frame in self.frames if frame != Ping()]

    async def pings(self, number: int) -> None:
        """Wait until *number* pings were sent in total."""
        await until(lambda: self.frames.count(Ping()) == number)

    async def answer(self) -> None:
        """Deliver a PONG, and wait until it is read."""
        heard_at = self.near.stream.heard_at
        self.near.receive(framed(Pong()))
        await until(lambda: self.near.stream.heard_at > heard_at)


Make = Callable[[NetSettings], Stage]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Create stages with links that do not run yet."""
    stages: list[Stage] = []

    def made(settings: NetSettings) -> Stage:
        stages.append(Stage(settings))
        return stages[-1]

    yield made
    for stage in stages:
        stage.link.cut("the test is over")
        if stage.running is not None:
            await asyncio.wait([stage.running])


@pytest.fixture
def start(make: Make) -> Make:
    """Create stages with running links."""

    def started(settings: NetSettings) -> Stage:
        stage = make(settings)
        stage.run()
        return stage

    return started


# --- frames that come ---------------------------------------------------------------------------------------


async def test_a_frame_is_delivered_in_the_callback_of_its_last_byte(start: Make) -> None:
    stage = start(QUIET)
    await asyncio.sleep(0)
    for byte in framed(ASK):
        assert stage.handled == []
        stage.near.receive(bytes([byte]))
    assert stage.handled == [ASK]


async def test_frames_received_during_the_handshake_are_delivered_in_order(make: Make) -> None:
    stage = make(QUIET)
    wire = framed(
        Ready(1), RecordsRequest("0" * 64, 1), RecordsRequest("1" * 64, 2), RecordsRequest("2" * 64, 3)
    )
    stage.near.receive(wire[:-80])
    assert await stage.near.stream.next() == Ready(1)
    stage.near.receive(wire[-80:-10])
    stage.run()
    await asyncio.sleep(0)
    stage.near.receive(wire[-10:])
    assert stage.handled == [
        RecordsRequest("0" * 64, 1),
        RecordsRequest("1" * 64, 2),
        RecordsRequest("2" * 64, 3),
    ]
    assert stage.near.stream.meter.received == len(wire)


async def test_an_exception_in_handling_a_frame_is_raised_by_run(start: Make) -> None:
    stage = start(QUIET)
    stage.fault = ZeroDivisionError("ours")
    await asyncio.sleep(0)
    stage.near.receive(framed(ASK, ASK))
    with pytest.raises(ZeroDivisionError, match="ours"):
        await stage.reason()
    assert stage.handled == [ASK]
    assert stage.near.is_closed


# --- frames that go -----------------------------------------------------------------------------------------


async def test_frames_sent_in_one_turn_are_one_write(start: Make) -> None:
    stage = start(QUIET)
    asks = [RecordsRequest("0" * 64, number) for number in range(1, 6)]
    for ask in asks:
        assert stage.link.send(ask)
    assert stage.near.writes == []
    await until(lambda: bool(stage.near.writes))
    assert stage.near.writes == [framed(*asks, Ping())]


async def test_while_the_peer_does_not_read_frames_are_queued_and_no_ping_is_sent(start: Make) -> None:
    stage = start(msgspec.structs.replace(QUIET, ping_seconds=0.001, silence_seconds=0.02))
    stage.near.stop_reading()
    stage.link.send(ASK)
    assert "nothing was heard" in await stage.reason()
    assert stage.near.writes == []


async def test_a_peer_that_reads_again_gets_the_queued_frames(start: Make) -> None:
    stage = start(QUIET)
    stage.near.stop_reading()
    stage.link.send(ASK)
    stage.link.send(Pong())
    await asyncio.sleep(0)
    assert stage.near.writes == []
    stage.near.read_on()
    await until(lambda: bool(stage.near.writes))
    assert stage.talk == [ASK, Pong()]


async def test_the_send_queue_is_bounded_including_a_full_transport(start: Make) -> None:
    stage = start(msgspec.structs.replace(QUIET, max_queue_bytes=3 * len(framed(ASK))))
    stage.near.fills_up = True
    stage.link.send(ASK)
    stage.link.send(ASK)
    await until(lambda: bool(stage.near.writes))
    assert stage.link.send(ASK)
    assert not stage.link.send(ASK)
    assert await stage.reason() == f"it does not read: {3 * len(framed(ASK))} bytes wait to be sent to it"
    await stage.link.end()
    assert stage.near.is_aborted
    assert stage.talk == [ASK, ASK]


def has_sent(stage: Stage, number: int) -> bool:
    return stage.frames.count(ASK) == number


async def test_written_frames_do_not_count_as_queued(start: Make) -> None:
    stage = start(msgspec.structs.replace(QUIET, max_queue_bytes=2 * len(framed(ASK))))
    stage.near.fills_up = True
    stage.link.send(ASK)
    await until(lambda: stage.talk == [ASK])
    for number in range(2, 5):
        assert stage.link.send(ASK)
        stage.near.read_on()
        await until(partial(has_sent, stage, number))
    stage.near.fills_up = False
    stage.near.read_on()
    await asyncio.sleep(0)
    assert stage.link.send(ASK)
    assert stage.link.send(ASK)


# --- how links end ------------------------------------------------------------------------------------------


async def test_bye_follows_the_queued_frames_and_is_the_last(start: Make) -> None:
    stage = start(QUIET)
    stage.link.send(ASK)
    stage.link.close("it is over")
    assert not stage.link.send(ASK)
    assert await stage.reason() == "it is over"
    assert stage.frames == [ASK, Bye("it is over")]
    closed_before_the_end = stage.near.is_closed
    assert not closed_before_the_end
    await stage.link.end()
    assert stage.near.is_closed
    assert not stage.near.is_aborted


async def test_a_link_ends_when_its_bye_is_written(start: Make) -> None:
    stage = start(QUIET)
    stage.near.fills_up = True
    stage.link.close("it is over")
    await until(lambda: bool(stage.near.writes))
    await asyncio.sleep(0)
    assert stage.running is not None
    assert not stage.running.done()
    stage.near.read_on()
    assert await stage.reason() == "it is over"


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (Bye("a pause"), "it said goodbye: a pause"),
        (Refusal("protocol", "nonsense"), "it ended the link: nonsense"),
    ],
)
async def test_after_bye_or_refusal_nothing_is_delivered(
    start: Make, last: ControlFrame, reason: str
) -> None:
    stage = start(QUIET)
    stage.near.receive(framed(ASK, last, ASK))
    assert await stage.reason() == reason
    assert stage.handled == [ASK]


@pytest.mark.parametrize(
    ("wire", "what"),
    [
        (b"\0\0\0\0", "a frame of 0 bytes was announced"),
        (b"\0\0\0\1\xc1", "a frame of 1 bytes cannot be understood"),
        (framed(Ready(1)), "a second READY came"),
    ],
)
async def test_a_peer_that_breaks_the_protocol_gets_the_queued_frames_then_a_refusal(
    start: Make, wire: bytes, what: str
) -> None:
    stage = start(QUIET)
    await asyncio.sleep(0)
    stage.near.receive(framed(ASK, Ping()) + wire + framed(ASK))
    stage.near.receive(framed(ASK))
    reason = await stage.reason()
    assert reason.startswith(f"it broke the protocol: {what}")
    pong, refusal = stage.frames
    assert pong == Pong()
    assert isinstance(refusal, Refusal)
    assert reason == f"it broke the protocol: {refusal.reason}"
    assert stage.handled == [ASK]
    await stage.link.end()
    assert not stage.near.is_aborted


async def test_a_run_of_a_newer_version_ends_the_link_and_both_sides_are_told_who_must_be_upgraded(
    start: Make,
) -> None:
    stage = start(QUIET)
    await asyncio.sleep(0)
    fields = msgspec.msgpack.decode(encode(Offer(genesis())))
    fields["genesis"]["spec"]["privacy"] = {"type": "masked"}
    stage.near.receive(encode_frame(msgspec.msgpack.encode(fields), MAX_BYTES) + framed(ASK))
    reason = await stage.reason()
    assert reason == (
        "its run has the privacy 'masked', which this device's p2pfl does not know: upgrade p2pfl on this device"
    )
    (refusal,) = stage.frames
    assert isinstance(refusal, Refusal)
    assert refusal.kind == "version"
    assert refusal.reason.startswith("your run has the privacy 'masked'")
    assert stage.handled == []


async def test_a_broken_protocol_remains_the_reason_when_the_connection_breaks(start: Make) -> None:
    stage = start(QUIET)
    await asyncio.sleep(0)
    stage.near.receive(b"\0\0\0\0")
    stage.near.breaks(ConnectionResetError(104, "Connection reset by peer"))
    assert (await stage.reason()).startswith("it broke the protocol")


async def test_a_peer_that_breaks_the_protocol_and_does_not_read_is_cut(
    start: Make,
) -> None:
    stage = start(msgspec.structs.replace(QUIET, silence_seconds=0.02))
    await asyncio.sleep(0)
    stage.near.stop_reading()
    stage.near.receive(b"\0\0\0\0")

    def is_over() -> bool:
        stage.near.receive(framed(ASK))
        assert stage.running is not None
        return stage.running.done()

    await until(is_over)
    assert "nothing was heard" in await stage.reason()
    assert stage.handled == []


async def test_a_connection_that_the_peer_closes_ends_the_link(start: Make) -> None:
    stage = start(QUIET)
    await asyncio.sleep(0)
    stage.near.receive(framed(ASK))
    stage.near.receive_end()
    assert await stage.reason() == "it closed the connection"
    assert stage.handled == [ASK]


async def test_a_connection_closed_before_run_ends_the_link(make: Make) -> None:
    stage = make(QUIET)
    stage.near.receive(framed(ASK))
    stage.near.receive_end()
    stage.run()
    assert await stage.reason() == "it closed the connection"
    assert stage.handled == [ASK]


async def test_an_end_inside_a_frame_breaks_the_protocol(start: Make) -> None:
    stage = start(QUIET)
    await asyncio.sleep(0)
    stage.near.receive(framed(ASK)[:-1])
    stage.near.receive_end()
    stage.near.close()
    assert (await stage.reason()).startswith("it broke the protocol: the connection ended inside a frame")


async def test_a_broken_connection_is_reported_with_the_error_of_the_system(start: Make) -> None:
    stage = start(QUIET)
    await asyncio.sleep(0)
    stage.near.breaks(ConnectionResetError(104, "Connection reset by peer"))
    assert await stage.reason() == "the connection broke (Connection reset by peer)"
    assert not stage.link.send(ASK)


async def test_a_peer_that_sends_from_time_to_time_is_not_silent(start: Make) -> None:
    stage = start(msgspec.structs.replace(QUIET, silence_seconds=0.05))
    begin = asyncio.get_running_loop().time()

    def long_after() -> bool:
        stage.near.receive(framed(ASK))
        return asyncio.get_running_loop().time() > begin + 0.2

    await until(long_after)
    assert stage.running is not None
    assert not stage.running.done()


# --- round-trip times ---------------------------------------------------------------------------------------


async def test_on_an_idle_link_the_keep_alive_ping_measures_the_round_trip(
    start: Make,
) -> None:
    stage = start(NetSettings(ping_seconds=0.001))
    rtt = stage.link.rtt
    assert rtt is None
    await stage.pings(1)
    await stage.answer()
    rtt = stage.link.rtt
    assert rtt is not None
    assert 0 < rtt < 5


async def test_on_a_busy_link_pings_are_sent_with_other_frames(
    start: Make,
) -> None:
    stage = start(NetSettings(ping_seconds=60))
    stage.link.send(ASK)
    await stage.pings(1)
    assert stage.frames == [ASK, Ping()]
    await stage.answer()
    assert stage.link.rtt is not None


async def test_a_busy_link_sends_few_pings(start: Make) -> None:
    stage = start(NetSettings(ping_seconds=60))
    for number in range(1, 50):
        stage.link.send(ASK)
        await until(partial(has_sent, stage, number))
    assert stage.frames.count(Ping()) == 1
    assert module.RTT_SECONDS >= 1


async def test_a_second_ping_does_not_shorten_the_measured_round_trip(
    start: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = start(NetSettings(ping_seconds=0.001))
    clock = time.perf_counter
    await stage.pings(1)
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + 3.0)
    await until(lambda: stage.frames.count(Ping()) >= 2)
    await stage.answer()
    assert stage.link.rtt is not None
    assert stage.link.rtt >= 3.0


async def test_an_unrequested_pong_is_ignored(start: Make) -> None:
    stage = start(NetSettings(ping_seconds=60))
    await stage.answer()
    assert stage.link.rtt is None


async def test_a_repeated_frame_over_the_limit_is_logged_as_an_error_once(
    start: Make, caplog: pytest.LogCaptureFixture
) -> None:
    stage = start(NetSettings())
    frame = Decline("0" * 64, "x" * MAX_BYTES)
    assert [stage.link.send(frame) for _ in range(3)] == [False] * 3
    said = [entry for entry in caplog.records if entry.levelname == "ERROR"]
    assert [entry.getMessage().split(",")[0] for entry in said] == ["a Decline for ben cannot be sent"]
    assert stage.talk == []
