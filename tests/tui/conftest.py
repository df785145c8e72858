"""Screens are the same everywhere: the same zone, no colours taken away, nothing that moves by itself."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

os.environ["TEXTUAL_ANIMATIONS"] = "none"  # looked at when Textual is imported


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


FRAME_SECONDS = 1 / 40
"""Textual draws this often at least while something has changed."""


async def _nothing_is_due(*_: int) -> None:
    """Wait until the event loop has nothing to do now, nor before the next frame would be drawn."""
    loop: Any = asyncio.get_running_loop()  # its queues are private
    while True:
        await asyncio.sleep(0)
        if not loop._ready:
            due = min((handle.when() for handle in loop._scheduled if not handle.cancelled()), default=None)
            if due is None or due - loop.time() > FRAME_SECONDS:
                return
            await asyncio.sleep(max(0.0, due - loop.time()))


@pytest.fixture(autouse=True)
def no_longer_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Textual's pilot sleeps until the processor is idle, which it is not while other tests run beside."""
    monkeypatch.setattr("textual.pilot.wait_for_idle", _nothing_is_due)
    monkeypatch.setattr("textual.app.wait_for_idle", _nothing_is_due)
