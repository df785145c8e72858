from __future__ import annotations

import asyncio
import errno

import pytest

from p2pfl.net import tasks
from p2pfl.net.tasks import Tasks
from tests.support.meshes import until


async def test_what_is_to_last_begins_anew_after_an_error_that_is_logged_once_of_each_kind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "ANEW_SECONDS", 0.0)
    errors: list[Exception] = [OSError(errno.EMFILE, "too many"), OSError(errno.EMFILE, "too many")]
    errors += [RuntimeError("ours")]
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if errors:
            raise errors.pop(0)
        await asyncio.Event().wait()

    owner = Tasks()
    owner.start_lasting("waiting", work)
    await until(lambda: begun == 4)
    await owner.close()
    assert [record.getMessage() for record in caplog.records] == [
        "an error in waiting; it goes on in a moment"
    ] * 2
