from __future__ import annotations

import asyncio

from p2pfl.learning.output_lines import MAX_OUTPUT_LINE_BYTES, output_lines


async def lines_of(*pieces: bytes) -> list[str]:
    stream = asyncio.StreamReader()
    for piece in pieces:
        stream.feed_data(piece)
    stream.feed_eof()
    return [line async for line in output_lines(stream)]


async def test_lines_come_without_their_ends_and_empty_ones_are_skipped() -> None:
    assert await lines_of(b"one\ntw", b"o  \n\n  \nthree") == ["one", "two", "three"]


async def test_bytes_that_are_no_text_are_shown_as_escapes() -> None:
    assert await lines_of(b"\xff!\n") == ["\\xff!"]


async def test_a_line_that_never_ends_is_split() -> None:
    found = await lines_of(b"x" * (5 * MAX_OUTPUT_LINE_BYTES))
    assert len(found) > 1
    assert max(map(len, found)) <= 2 * MAX_OUTPUT_LINE_BYTES
    assert "".join(found) == "x" * (5 * MAX_OUTPUT_LINE_BYTES)
