from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from p2pfl.cli.keyboard import Keyboard


class Typist:
    """Types on the other end of a pipe."""

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe()

    def types(self, text: str) -> None:
        os.write(self._write_end, text.encode())

    def leaves(self) -> None:
        if self._write_end >= 0:
            os.close(self._write_end)
        self._write_end = -1


@pytest.fixture
async def typist() -> AsyncIterator[Typist]:
    one = Typist()
    yield one
    one.leaves()
    os.close(one.read_end)


async def test_a_line_answers_the_open_question_and_enter_alone_does_not_start(typist: Typist) -> None:
    pressed: asyncio.Queue[int] = asyncio.Queue()
    keyboard = Keyboard(lambda: pressed.put_nowait(1), typist.read_end)
    with keyboard.reading():
        question = asyncio.create_task(keyboard.ask())
        await asyncio.sleep(0)
        typist.types("  y \n\n")
        assert await question == "y"
        async with asyncio.timeout(30):
            assert await pressed.get() == 1
        typist.types("half ")
        question = asyncio.create_task(keyboard.ask())
        await asyncio.sleep(0)
        typist.types("line\n")
        assert await question == "half line"
    assert pressed.empty(), "once"


async def test_the_end_of_the_input_answers_all_questions(typist: Typist) -> None:
    keyboard = Keyboard(descriptor=typist.read_end)
    with keyboard.reading():
        question = asyncio.create_task(keyboard.ask())
        await asyncio.sleep(0)
        typist.leaves()
        assert await question is None
        assert await keyboard.ask() is None


async def test_what_cannot_be_polled_is_read_in_a_thread(
    typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", cannot)
    keyboard = Keyboard(descriptor=typist.read_end)
    with keyboard.reading():
        question = asyncio.create_task(keyboard.ask())
        await asyncio.sleep(0)
        typist.types("n\n")
        assert await question == "n"
        typist.leaves()
        assert await keyboard.ask() is None
