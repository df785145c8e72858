from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import FrameError
from p2pfl.wire.frames import FrameDecoder, encode_frame

LIMIT = 100
bodies = st.lists(st.binary(min_size=1, max_size=LIMIT), max_size=10)


def encoded(frames: list[bytes]) -> bytes:
    return b"".join(encode_frame(body, LIMIT) for body in frames)


@given(bodies)
def test_frames_fed_whole_come_back(frames: list[bytes]) -> None:
    decoder = FrameDecoder(LIMIT)
    assert decoder.feed(encoded(frames)) == frames
    decoder.end()


@given(bodies)
def test_frames_fed_byte_by_byte_come_back(frames: list[bytes]) -> None:
    decoder = FrameDecoder(LIMIT)
    stream = encoded(frames)
    assert [body for byte in stream for body in decoder.feed(bytes([byte]))] == frames
    decoder.end()


@given(bodies, st.binary(min_size=1, max_size=LIMIT), st.data())
def test_the_start_of_a_further_frame_is_kept(
    frames: list[bytes], further: bytes, data: st.DataObject
) -> None:
    last = encode_frame(further, LIMIT)
    cut = data.draw(st.integers(1, len(last) - 1))
    decoder = FrameDecoder(LIMIT)
    assert decoder.feed(encoded(frames) + last[:cut]) == frames
    with pytest.raises(FrameError, match=f"ended inside a frame, {cut} bytes after its start"):
        decoder.end()
    assert decoder.feed(last[cut:]) == [further]


@given(st.binary(max_size=300))
def test_any_bytes_give_frames_or_a_frame_error(data: bytes) -> None:
    decoder = FrameDecoder(LIMIT)
    try:
        assert all(1 <= len(body) <= LIMIT for body in decoder.feed(data))
        decoder.feed()
        decoder.end()
    except FrameError:
        pass


def test_a_frame_of_4_gib_is_refused_from_its_first_four_bytes() -> None:
    decoder = FrameDecoder(LIMIT)
    assert decoder.feed(b"\xff\xff\xff") == []
    with pytest.raises(
        FrameError, match=r"a frame of 4294967295 bytes was announced; at most 100 are allowed"
    ):
        decoder.feed(b"\xff")


def test_a_frame_of_the_largest_size_passes_and_one_byte_more_does_not() -> None:
    assert FrameDecoder(LIMIT).feed(encode_frame(b"x" * LIMIT, LIMIT)) == [b"x" * LIMIT]
    with pytest.raises(FrameError, match="a frame of 101 bytes"):
        FrameDecoder(LIMIT).feed(encode_frame(b"x" * (LIMIT + 1), LIMIT + 1))


def test_an_empty_frame_is_refused() -> None:
    with pytest.raises(FrameError, match="a frame of 0 bytes was announced"):
        FrameDecoder(LIMIT).feed(b"\0\0\0\0")


@pytest.mark.parametrize("body", [b"", b"x" * (LIMIT + 1)])
def test_what_no_decoder_takes_is_not_encoded(body: bytes) -> None:
    with pytest.raises(FrameError):
        encode_frame(body, LIMIT)


def test_what_came_before_a_bad_frame_is_returned_first() -> None:
    decoder = FrameDecoder(LIMIT)
    assert decoder.feed(encode_frame(b"last words", LIMIT) + b"\xff" * 4) == [b"last words"]
    with pytest.raises(FrameError):
        decoder.feed()


def test_a_decoder_is_inside_a_frame_from_its_first_byte_to_its_last() -> None:
    decoder = FrameDecoder(LIMIT)
    was_inside = []
    for byte in encode_frame(b"abc", LIMIT):
        decoder.feed(bytes([byte]))
        was_inside.append(decoder.is_inside)
    assert was_inside == [True] * 6 + [False]
