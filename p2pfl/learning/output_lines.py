"""The lines that a child process writes, with a bound on their length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

MAX_OUTPUT_LINE_BYTES = 2000
"""Maximum length of a line; a longer one is split."""


async def output_lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield the lines of *stream* without white space at their ends; empty lines are skipped."""
    rest = b""
    while piece := await stream.read(MAX_OUTPUT_LINE_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > MAX_OUTPUT_LINE_BYTES:
            lines, rest = [*lines, rest], b""
        for line in lines:
            if text := _decoded(line):
                yield text
    if text := _decoded(rest):
        yield text


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").rstrip()
