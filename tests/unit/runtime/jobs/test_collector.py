"""Blobs nobody needs go, what may be needed stays, and the disk is not tidied more often than is of use."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from p2pfl.runtime.jobs.collector import Collector
from p2pfl.store.blobs import BlobStore
from tests.support.meshes import until
from tests.support.records import digest


class Tidied:
    """A collector of a store in *path*, and how often it began to collect."""

    def __init__(self, path: Path) -> None:
        self.store = BlobStore(path)
        self.begun, self.errors = 0, list[BaseException | None]()
        self.may_begin = asyncio.Event()
        self.may_begin.set()
        self.collector = Collector(self.store, self._best, lambda task: self.errors.append(task.exception()))

    async def _best(self) -> str | None:
        self.begun += 1
        await self.may_begin.wait()
        return digest("best")

    def add(self, word: str) -> str:
        path = self.store.new_path()
        path.write_bytes(word.encode())
        self.store.adopt(path, digest(word))
        return digest(word)


@pytest.fixture
async def tidied(tmp_path: Path) -> Tidied:
    return Tidied(tmp_path)


async def test_only_what_is_needed_pinned_or_best_stays(tidied: Tidied) -> None:
    kept, pinned, best, _ = (tidied.add(word) for word in ("kept", "pinned", "best", "unused"))
    tidied.store.pin(pinned)
    tidied.collector.collect(frozenset({kept}))
    await tidied.collector.close()
    assert tidied.store.digests() == {kept, pinned, best}
    assert tidied.errors == [None]


async def test_the_first_collection_is_made_at_once(tidied: Tidied) -> None:
    unused = tidied.add("unused")
    tidied.collector.collect(frozenset())
    await until(lambda: not tidied.store.has(unused))


async def test_many_sets_in_a_row_are_one_collection_by_the_last_of_them(tidied: Tidied) -> None:
    tidied.may_begin.clear()
    first, second, last = (tidied.add(word) for word in ("first", "second", "last"))
    for keep in ({first, second}, {second}, {last}):
        tidied.collector.collect(frozenset(keep))
    tidied.may_begin.set()
    await tidied.collector.close()
    assert tidied.begun == 1
    assert tidied.store.digests() == {last}


async def test_a_second_collection_keeps_its_distance_and_is_made_before_the_end(tidied: Tidied) -> None:
    first, second = tidied.add("first"), tidied.add("second")
    tidied.collector.collect(frozenset({second}))
    await until(lambda: not tidied.store.has(first))
    tidied.collector.collect(frozenset())
    await asyncio.to_thread(lambda: None)  # whatever was due at once has begun
    assert tidied.begun == 1
    await tidied.collector.close()
    assert tidied.begun == 2
    assert tidied.store.digests() == frozenset()


async def test_a_set_that_comes_when_a_collection_has_just_ended_is_gone_by_too(tidied: Tidied) -> None:
    first, second = tidied.add("first"), tidied.add("second")
    tidied.collector.collect(frozenset({second}))
    task = tidied.collector._task
    assert task is not None
    # Callbacks are called in their order: this one is told of the end before the collector is.
    task.remove_done_callback(tidied.collector._ended)
    task.add_done_callback(lambda _: tidied.collector.collect(frozenset()))
    task.add_done_callback(tidied.collector._ended)
    await until(lambda: not tidied.store.has(second))
    assert not tidied.store.has(first)
    await tidied.collector.close()
    assert tidied.begun == 2


async def test_a_pin_taken_away_since_the_last_set_was_given_holds_until_a_collection_goes_by_it(
    tidied: Tidied,
) -> None:
    tidied.may_begin.clear()
    late = tidied.add("late")
    tidied.store.pin(late)
    tidied.collector.collect(frozenset())
    tidied.collector.unpin(late)
    tidied.may_begin.set()
    await tidied.collector.close()
    assert tidied.store.has(late), "the set was given before it became needed"
    assert not tidied.store.is_pinned(late)


async def test_a_pin_taken_away_before_the_last_set_was_given_is_of_no_use_any_more(tidied: Tidied) -> None:
    tidied.may_begin.clear()
    old = tidied.add("old")
    tidied.store.pin(old)
    tidied.collector.collect(frozenset({old}))
    tidied.collector.unpin(old)
    tidied.collector.collect(frozenset())
    tidied.may_begin.set()
    await tidied.collector.close()
    assert not tidied.store.has(old)


async def test_without_a_collection_a_pin_goes_at_once(tidied: Tidied) -> None:
    tidied.store.pin(digest("a"))
    tidied.collector.unpin(digest("a"))
    assert not tidied.store.is_pinned(digest("a"))


async def test_a_set_that_comes_while_the_disk_is_waited_for_deletes_nothing_yet(tidied: Tidied) -> None:
    # It may be the set after a commit that is not on disk: the update made needless must outlive a crash.
    tidied.may_begin.clear()
    update, unused = tidied.add("update"), tidied.add("unused")
    tidied.collector.collect(frozenset({update}))
    await until(lambda: tidied.begun == 1)
    tidied.collector.collect(frozenset())
    tidied.may_begin.set()
    await until(lambda: not tidied.store.has(unused))
    assert tidied.store.has(update)
    await tidied.collector.close()
    assert not tidied.store.has(update), "the next collection waits for the disk itself"
    assert tidied.begun == 2


async def test_a_pin_taken_away_while_the_disk_is_waited_for_holds_until_the_next_collection(
    tidied: Tidied,
) -> None:
    tidied.may_begin.clear()
    late, unused = tidied.add("late"), tidied.add("unused")
    tidied.store.pin(late)
    tidied.collector.collect(frozenset())
    await until(lambda: tidied.begun == 1)
    tidied.collector.unpin(late)
    tidied.collector.collect(frozenset({late}))
    tidied.may_begin.set()
    await until(lambda: not tidied.store.has(unused))
    await tidied.collector.close()
    assert tidied.store.has(late)
