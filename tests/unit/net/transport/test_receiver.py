"""A receiver delivers exactly the requested bytes to the requested place."""

from __future__ import annotations

import asyncio

import pytest

from p2pfl.errors import BlobError
from p2pfl.net.transport.receiver import Receiver


class FarEnd(asyncio.Transport):
    """The transport under a `Receiver`: it delivers bytes as asyncio does, and buffers them while reading pauses."""

    def __init__(self) -> None:
        super().__init__()
        self._is_reading = True
        self.unread = b""
        self.receiver = Receiver()
        self.receiver.connection_made(self)

    def send(self, data: bytes) -> None:
        """Deliver *data* as far as it is read."""
        self.unread += data
        while self._is_reading and self.unread:
            room = self.receiver.get_buffer(-1)
            assert room
            piece, self.unread = self.unread[: len(room)], self.unread[len(room) :]
            room[: len(piece)] = piece
            self.receiver.buffer_updated(len(piece))

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        asyncio.get_running_loop().call_soon(self.send, b"")


@pytest.fixture
def far() -> FarEnd:
    return FarEnd()


def pouring(far: FarEnd, count: int, sink: list[bytes], size: int = 4) -> asyncio.Task[None]:
    """Read *count* bytes into *sink* through a buffer of *size*."""
    view = memoryview(bytearray(size))
    return asyncio.create_task(far.receiver.read_pieces(view, count, lambda piece: sink.append(bytes(piece))))


async def begun(task: asyncio.Task[None]) -> None:
    """Run *task* until it waits for bytes."""
    await asyncio.sleep(0)
    assert not task.done()


async def test_read_into_fills_the_view_and_leaves_later_bytes_unread(far: FarEnd) -> None:
    view = memoryview(bytearray(5))
    task = asyncio.create_task(far.receiver.read_into(view))
    await begun(task)
    far.send(b"ab")
    far.send(b"cdefg")
    await task
    assert bytes(view) == b"abcde"
    assert far.unread == b"fg"


async def test_read_pieces_passes_pieces_on_and_leaves_later_bytes_unread(far: FarEnd) -> None:
    sink: list[bytes] = []
    task = pouring(far, 7, sink)
    await begun(task)
    far.send(b"ab")
    assert sink == [b"ab"]
    far.send(b"cdefghi")
    await task
    assert sink == [b"ab", b"cdef", b"g"]
    assert far.unread == b"hi"
    assert far.receiver.meter.received == 7


async def test_bytes_received_before_the_call_are_passed_on(far: FarEnd) -> None:
    far.send(b"abcdef")
    sink: list[bytes] = []
    await pouring(far, 5, sink)
    assert sink == [b"abcd", b"e"]
    assert far.unread == b"f"


async def test_read_pieces_continues_where_read_into_ended(far: FarEnd) -> None:
    far.send(b"123abc")
    head = memoryview(bytearray(3))
    await far.receiver.read_into(head)
    sink: list[bytes] = []
    await pouring(far, 3, sink)
    assert (bytes(head), sink) == (b"123", [b"abc"])


async def test_an_error_of_the_sink_ends_read_pieces(far: FarEnd) -> None:
    def refuse(piece: memoryview) -> None:
        raise BlobError("no more of this")

    far.send(b"abcdefgh")
    with pytest.raises(BlobError, match="no more of this"):
        await far.receiver.read_pieces(memoryview(bytearray(4)), 8, refuse)
    await asyncio.sleep(0)
    assert far.unread == b"efgh"


async def test_a_connection_that_breaks_raises_in_the_caller(far: FarEnd) -> None:
    sink: list[bytes] = []
    task = pouring(far, 8, sink)
    await begun(task)
    far.send(b"abc")
    far.receiver.connection_lost(None)
    with pytest.raises(ConnectionResetError, match="closed the connection in the middle"):
        await task
    with pytest.raises(ConnectionResetError):
        await pouring(far, 8, sink)
    assert sink == [b"abc"]


async def test_after_a_cancelled_call_the_sink_gets_nothing(far: FarEnd) -> None:
    sink: list[bytes] = []
    task = pouring(far, 8, sink)
    await begun(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    far.send(b"abc")
    assert sink == []
    assert not far.receiver.is_waiting


async def test_fail_raises_only_in_a_waiting_caller(far: FarEnd) -> None:
    far.receiver.fail(TimeoutError("too early"))
    task = pouring(far, 8, [])
    await begun(task)
    assert far.receiver.is_waiting
    far.receiver.fail(TimeoutError("too slow"))
    with pytest.raises(TimeoutError, match="too slow"):
        await task
