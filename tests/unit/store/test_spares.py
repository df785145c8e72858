"""Short files are written over instead of deleted, but never under somebody who reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.store.blobs import QUICK_BYTES, BlobStore
from p2pfl.store.spares import MAX_SPARES, Spares
from tests.support.records import digest

MOST_BYTES = 10


@pytest.fixture
def spares() -> Spares:
    return Spares(MOST_BYTES)


def made(folder: Path, name: str, length: int = MOST_BYTES) -> Path:
    path = folder / name
    path.write_bytes(bytes(length))
    return path


def test_a_spare_is_taken_once_and_not_before_another_collection(spares: Spares, tmp_path: Path) -> None:
    assert spares.add([made(tmp_path, "a")]) == []
    assert not spares.take(tmp_path / "b"), "somebody may have begun to read it just before"
    spares.add([])
    assert spares.take(tmp_path / "b")
    assert (tmp_path / "b").stat().st_size == MOST_BYTES
    assert not (tmp_path / "a").exists()
    assert not spares.take(tmp_path / "c")


def test_long_files_and_more_than_are_of_use_are_given_back_to_be_deleted(
    spares: Spares, tmp_path: Path
) -> None:
    long, gone = made(tmp_path, "long", MOST_BYTES + 1), tmp_path / "gone"
    short = [made(tmp_path, str(number)) for number in range(MAX_SPARES + 1)]
    assert spares.add([long, gone, *short]) == [long, gone, short[-1]]
    assert spares.drop() == short[:-1]
    assert spares.drop() == []


def test_a_file_that_is_read_is_not_written_over_meanwhile(spares: Spares, tmp_path: Path) -> None:
    read, other = made(tmp_path, "read"), made(tmp_path, "other")
    with read.open("rb", buffering=0) as file:
        with spares.reading(file), spares.reading(file):
            spares.add([read, other])
            spares.add([])
            assert spares.take(tmp_path / "first")
            assert not other.exists()
            assert not spares.take(tmp_path / "second")
        assert spares.take(tmp_path / "second")


def test_a_spare_that_somebody_removed_is_no_harm(spares: Spares, tmp_path: Path) -> None:
    path = made(tmp_path, "a")
    spares.add([path])
    spares.add([])
    path.unlink()
    assert not spares.take(tmp_path / "b")


# --- in a store -------------------------------------------------------------------------------------------------


def blob(store: BlobStore, data: bytes) -> str:
    path = store.new_path()
    path.write_bytes(data)
    store.adopt(path, digest(data.decode()), durable=False)
    return digest(data.decode())


def collect(store: BlobStore, *keep: str) -> None:
    store.delete(store.collect(keep))


def with_spare(folder: Path, length: int) -> BlobStore:
    """A store with one file of *length* bytes to be written over."""
    store = BlobStore(folder)
    blob(store, b"o" * length)
    collect(store)
    collect(store)
    return store


@pytest.mark.parametrize("old", [3, 8, 20])
@pytest.mark.parametrize("durable", [True, False])
def test_a_pull_over_a_file_of_any_length_has_its_own_bytes_only(
    tmp_path: Path, old: int, durable: bool
) -> None:
    from blake3 import blake3

    store, data = with_spare(tmp_path, old), b"new data"
    name = blake3(data).hexdigest()
    with store.partial(name, len(data), durable=durable) as pull:
        assert pull.offset == 0
        pull.write(data[:5])
        pull.write(data[5:])
        pull.finish()
    assert store.path(name).read_bytes() == data
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_broken_pull_over_a_file_goes_on_where_it_stopped(tmp_path: Path) -> None:
    from blake3 import blake3

    store, data = with_spare(tmp_path, 20), b"new data"
    name = blake3(data).hexdigest()
    with store.partial(name, len(data)) as pull:
        pull.write(data[:5])
    with store.partial(name, len(data)) as pull:
        assert pull.offset == 5
        pull.write(data[5:])
        pull.finish()
    assert store.path(name).read_bytes() == data


def test_a_killed_pull_over_a_file_leaves_nothing_that_looks_like_its_bytes(tmp_path: Path) -> None:
    store = with_spare(tmp_path, 8)
    with store.partial(digest("killed"), 8) as pull:
        pull.write(b"new")
        again = BlobStore(tmp_path)  # as a new process does, where this one was killed here
        assert list((tmp_path / "tmp").iterdir()) == []
        with again.partial(digest("killed"), 8) as anew:
            assert anew.offset == 0


def test_a_served_blob_keeps_its_bytes_though_it_is_collected(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    name = blob(store, b"served")
    with store.reading(name) as file:
        collect(store)
        collect(store)
        store.new_path().write_bytes(b"others")
        assert file.read() == b"served"


def test_long_blobs_are_deleted_and_spares_are_at_the_end(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    path = store.new_path()
    with path.open("wb") as file:
        file.truncate(QUICK_BYTES + 1)
    store.adopt(path, digest("long"), durable=False)
    blob(store, b"short")
    collect(store)
    assert [one.stat().st_size for one in (tmp_path / "tmp").iterdir()] == [len(b"short")]
    store.close()
    assert list((tmp_path / "tmp").iterdir()) == []
