from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from p2pfl.errors import BlobError, NetworkError
from p2pfl.net.bulk.connector import HolderUnreachableError
from p2pfl.net.bulk.holders import Holder
from p2pfl.net.bulk.puller import BlobPuller
from p2pfl.net.bulk.request import Progress, PullRequest
from p2pfl.net.bulk.transfer import HolderBusyError
from p2pfl.net.transport.addresses import Address
from p2pfl.store.blobs import BlobStore
from p2pfl.store.partial import PartialBlob
from tests.support.meshes import until

BLOB = random.Random(2).randbytes(1000)
DIGEST = blake3(BLOB).hexdigest()
WRONG = bytes(1000)
ABSENT = NetworkError("it is not here")

Sender = Callable[[PartialBlob], None]


class FakeTransfers:
    """Holders that are functions: they write what they send, or raise."""

    def __init__(self, holders: dict[str, Sender]) -> None:
        self.holders = holders
        self.asked: list[str] = []
        self.running = self.most_running = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def run(self, digest: str, holder: Holder, partial: PartialBlob, on_progress: Progress) -> None:
        self.asked.append(holder.node)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await self.gate.wait()
        self.running -= 1
        self.holders[holder.node](partial)
        on_progress(partial.offset, partial.length)


def sends(data: bytes, most: int = len(BLOB)) -> Sender:
    """Return a holder that sends *data* from the offset on, at most *most* bytes, then breaks off."""

    def holder(partial: PartialBlob) -> None:
        partial.write(data[partial.offset : partial.offset + most])
        if partial.offset < partial.length:
            raise NetworkError("the connection broke")

    return holder


def refuses(error: Exception, times: int, then: Sender) -> Sender:
    """Return a holder that raises *error* so many *times*, and then does as *then*."""
    errors: Iterator[Exception] = iter([error] * times)

    def holder(partial: PartialBlob) -> None:
        for one in errors:
            raise one
        then(partial)

    return holder


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


@pytest.fixture
async def pull_from(
    store: BlobStore,
) -> AsyncIterator[Callable[[dict[str, Sender]], tuple[BlobPuller, FakeTransfers]]]:
    with ThreadPoolExecutor(2) as threads:

        def make(holders: dict[str, Sender]) -> tuple[BlobPuller, FakeTransfers]:
            def known(sources: Sequence[str]) -> list[Holder]:
                return [Holder(node, node, [Address("x", 1)]) for node in dict.fromkeys([*sources, *holders])]

            transfers = FakeTransfers(holders)
            return BlobPuller(store, transfers, known, 2, threads), transfers  # type: ignore[arg-type]

        yield make


async def test_a_stored_blob_is_not_transferred(store: BlobStore, pull_from: Callable[..., Any]) -> None:
    puller, transfers = pull_from({"ant": sends(BLOB)})
    await puller.pull(PullRequest(DIGEST, len(BLOB), ["ant"]))
    await puller.pull(PullRequest(DIGEST, len(BLOB), ["ant"]))
    assert transfers.asked == ["ant"]


async def test_sources_are_asked_in_order_before_other_nodes(
    store: BlobStore, pull_from: Callable[..., Any]
) -> None:
    away = refuses(NetworkError("away"), 99, sends(BLOB))
    puller, transfers = pull_from({"ant": sends(BLOB), "bee": away, "cat": away})
    await puller.pull(PullRequest(DIGEST, len(BLOB), ["cat", "bee"]))
    assert transfers.asked == ["cat", "bee", "ant"]


async def test_a_broken_transfer_continues_with_the_next_holder(
    store: BlobStore, pull_from: Callable[..., Any]
) -> None:
    puller, transfers = pull_from({"ant": sends(BLOB, 600), "bee": sends(BLOB)})
    await puller.pull(PullRequest(DIGEST, len(BLOB), ["ant", "bee"]))
    assert transfers.asked == ["ant", "bee"]
    assert store.path(DIGEST).read_bytes() == BLOB


async def test_after_a_wrong_digest_of_mixed_bytes_holders_are_not_mixed_again(
    store: BlobStore, pull_from: Callable[..., Any]
) -> None:
    puller, transfers = pull_from({"liar": sends(WRONG, 600), "honest": sends(BLOB)})
    await puller.pull(PullRequest(DIGEST, len(BLOB), ["liar", "honest"]))
    assert store.path(DIGEST).read_bytes() == BLOB
    assert transfers.asked == ["liar", "honest", "liar", "honest"]


async def test_a_holder_that_alone_sent_wrong_bytes_is_not_asked_again(
    store: BlobStore, pull_from: Callable[..., Any]
) -> None:
    busy_once = refuses(HolderBusyError("later"), 1, sends(BLOB))
    puller, transfers = pull_from({"liar": sends(WRONG), "honest": busy_once})
    await puller.pull(PullRequest(DIGEST, len(BLOB), ["liar", "honest"]))
    assert transfers.asked == ["liar", "honest", "honest"]


async def test_the_next_pull_does_not_ask_a_corrupt_holder_and_names_it(
    store: BlobStore, pull_from: Callable[..., Any]
) -> None:
    puller, transfers = pull_from({"liar": sends(WRONG), "ant": refuses(ABSENT, 99, sends(BLOB))})
    with pytest.raises(NetworkError, match=r"liar gave wrong bytes: .*; from ant: it is not here"):
        await puller.pull(PullRequest(DIGEST, len(BLOB), ["ant"]))
    assert transfers.asked == ["ant", "liar"]
    with pytest.raises(NetworkError, match=r"liar gave wrong bytes: .*; from ant: it is not here"):
        await puller.pull(PullRequest(DIGEST, len(BLOB), ["liar"]))
    assert transfers.asked == ["ant", "liar", "ant"]


async def test_the_error_names_an_unreachable_holder_once(
    store: BlobStore, pull_from: Callable[..., Any]
) -> None:
    away = refuses(HolderUnreachableError("ant cannot be dialled"), 99, sends(BLOB))
    puller, _ = pull_from({"ant": away})
    with pytest.raises(NetworkError, match=r"^no way to the bytes: ant cannot be dialled$"):
        await puller.pull(PullRequest(DIGEST, len(BLOB), []))


async def test_beside_an_unreachable_holder_the_error_omits_nodes_without_the_blob(
    store: BlobStore, pull_from: Callable[..., Any]
) -> None:
    away = refuses(HolderUnreachableError("cat cannot be dialled"), 99, sends(BLOB))
    puller, _ = pull_from({"ant": refuses(ABSENT, 99, sends(BLOB)), "cat": away})
    with pytest.raises(NetworkError, match=r"^no way to the bytes: cat cannot be dialled$"):
        await puller.pull(PullRequest(DIGEST, len(BLOB), []))


async def test_a_busy_holder_is_asked_again_but_one_without_the_blob_is_not(
    store: BlobStore, pull_from: Callable[..., Any]
) -> None:
    puller, transfers = pull_from({"ant": refuses(NetworkError("it is not here"), 99, sends(BLOB))})
    with pytest.raises(
        NetworkError, match=f"blob {DIGEST[:12]} could not be pulled: from ant: it is not here"
    ):
        await puller.pull(PullRequest(DIGEST, len(BLOB), []))
    assert transfers.asked == ["ant"]
    puller, transfers = pull_from({"ant": refuses(HolderBusyError("later"), 1, sends(BLOB))})
    await puller.pull(PullRequest(DIGEST, len(BLOB), []))
    assert transfers.asked == ["ant", "ant"]


async def test_wrong_bytes_from_every_holder_are_a_blob_error(
    store: BlobStore, pull_from: Callable[..., Any]
) -> None:
    puller, _ = pull_from({"ant": sends(WRONG), "bee": sends(WRONG[1:] + b"x")})
    with pytest.raises(
        BlobError, match=r"ant gave wrong bytes: .*other bytes.*; bee gave wrong bytes: .*other bytes"
    ):
        await puller.pull(PullRequest(DIGEST, len(BLOB), []))
    assert not store.has(DIGEST)


async def test_without_a_holder_the_error_says_so(store: BlobStore, pull_from: Callable[..., Any]) -> None:
    puller, _ = pull_from({})
    with pytest.raises(NetworkError, match="no node that may have it is reachable"):
        await puller.pull(PullRequest(DIGEST, len(BLOB), []))


async def test_simultaneous_pulls_are_limited(store: BlobStore, pull_from: Callable[..., Any]) -> None:
    blobs = [bytes([number]) * 10 for number in range(6)]
    by_digest = {blake3(blob).hexdigest(): blob for blob in blobs}
    puller, transfers = pull_from({"ant": lambda partial: partial.write(by_digest[partial._target.name])})
    transfers.gate.clear()
    pulls = [asyncio.create_task(puller.pull(PullRequest(digest, 10, []))) for digest in by_digest]
    await until(lambda: transfers.running == 2)
    transfers.gate.set()
    await asyncio.gather(*pulls)
    assert transfers.most_running == 2
    assert all(store.has(digest) for digest in by_digest)
