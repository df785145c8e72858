from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2pfl.errors import BlobError, DataDirectoryError
from p2pfl.store import durable
from p2pfl.store.blobs import BlobReader, BlobStore

BYTES = bytes(range(256)) * 40
DIGEST = blake3(BYTES).hexdigest()
OTHER = blake3(b"other").hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def put(store: BlobStore, content: bytes, *, durable: bool = True) -> str:
    path = store.new_path()
    path.write_bytes(content)
    digest = blake3(content).hexdigest()
    store.adopt(path, digest, durable=durable)
    return digest


def pull(store: BlobStore, content: bytes, *, durable: bool = True) -> str:
    digest = blake3(content).hexdigest()
    with store.partial(digest, len(content), durable=durable) as partial:
        partial.write(content)
        partial.finish()
    return digest


def temporary(store: BlobStore) -> list[str]:
    """Names of the files that are no blobs."""
    return sorted(path.name for path in (store.directory / "tmp").iterdir())


NOTHING = frozenset[str]()
"""What is needed where no blob is."""


@pytest.mark.parametrize(("most", "begun"), [(len(BYTES), [(0, len(BYTES))]), (len(BYTES) - 1, [])])
def test_the_disk_begins_with_a_short_blob_that_will_be_kept(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch, most: int, begun: list[tuple[int, int]]
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr("p2pfl.store.blobs.QUICK_BYTES", most)
    monkeypatch.setattr(
        "p2pfl.store.blobs.begin_flush", lambda _, offset, count: told.append((offset, count))
    )
    pull(store, BYTES, durable=False)
    store.begin_keeping(DIGEST)
    assert told == begun
    assert not store.is_durable(DIGEST)


def test_the_path_of_a_blob_stays_the_same_file_when_the_blob_becomes_durable(store: BlobStore) -> None:
    pull(store, BYTES, durable=False)
    path = store.path(DIGEST)
    before = path.stat()
    store.keep(DIGEST)
    assert store.path(DIGEST) == path
    assert os.path.samestat(path.stat(), before)
    assert path.stat().st_mtime_ns == before.st_mtime_ns, "a reader of the file need not read it again"


def test_a_blob_wanted_on_disk_soon_is_complete_before(store: BlobStore) -> None:
    with store.partial(DIGEST, len(BYTES), durable=False, soon=True) as partial:
        partial.write(BYTES)
        partial.finish()
    assert store.has(DIGEST)
    assert not store.is_durable(DIGEST)


def test_a_watcher_gets_all_bytes_of_every_attempt_from_the_first(store: BlobStore) -> None:
    shown: list[tuple[int, bytes]] = []

    def watch(offset: int, piece: bytes | bytearray | memoryview) -> None:
        shown.append((offset, bytes(piece)))

    with store.partial(DIGEST, len(BYTES), watch=watch) as partial:
        partial.write(BYTES[:7])
    with store.partial(DIGEST, len(BYTES), watch=watch) as partial:
        partial.write(BYTES[7:])
        partial.finish()
    assert shown == [(0, BYTES[:7]), (0, BYTES[:7]), (7, BYTES[7:])]


def test_adopted_file_is_a_blob_and_leaves_nothing_temporary(store: BlobStore) -> None:
    digest = put(store, BYTES)
    assert store.has(digest)
    assert store.size(digest) == len(BYTES)
    assert store.path(digest).read_bytes() == BYTES
    assert store.digests() == {digest}
    assert temporary(store) == []


def test_adopting_a_file_that_is_not_there_says_so(store: BlobStore) -> None:
    with pytest.raises(DataDirectoryError, match=f"cannot keep the blob .*{DIGEST}"):
        store.adopt(store.new_path(), DIGEST)


def test_size_of_a_missing_blob_is_file_not_found(store: BlobStore) -> None:
    assert not store.has(OTHER)
    with pytest.raises(FileNotFoundError):
        store.size(OTHER)


@pytest.mark.parametrize(
    "name", ["../journal.sqlite", "", "A" * 64, DIGEST + "\n", DIGEST[:-1], "/" + DIGEST]
)
def test_what_is_no_digest_never_becomes_a_path(store: BlobStore, name: str) -> None:
    with pytest.raises(BlobError, match="no blob's name"):
        store.path(name)
    with pytest.raises(BlobError, match="no blob's name"):
        store.partial(name, 1)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(min_size=1, max_size=200), cuts=st.lists(st.integers(1, 200), max_size=6))
def test_a_pull_broken_off_anywhere_resumes_and_ends_with_the_same_bytes(
    store: BlobStore, content: bytes, cuts: list[int]
) -> None:
    digest = blake3(content).hexdigest()
    for cut in sorted(cuts):
        with store.partial(digest, len(content)) as partial:
            assert partial.offset <= len(content)
            partial.write(memoryview(content)[partial.offset : max(partial.offset, cut)])
            reached = partial.offset
        with store.partial(digest, len(content)) as partial:
            assert partial.offset == reached
    with store.partial(digest, len(content)) as partial:
        partial.write(content[partial.offset :])
        partial.finish()
    assert store.path(digest).read_bytes() == content


def test_a_broken_pull_resumes_after_a_restart_but_a_half_written_file_is_dropped(store: BlobStore) -> None:
    store.new_path().write_bytes(b"half of what the worker wanted to write")
    with store.partial(DIGEST, len(BYTES)) as partial:
        partial.write(BYTES[:1000])
    again = BlobStore(store.directory)
    assert temporary(store) == [f"{DIGEST}.part"]
    with again.partial(DIGEST, len(BYTES)) as partial:
        assert partial.offset == 1000


def test_more_bytes_than_the_length_are_refused_before_they_are_written(store: BlobStore) -> None:
    with store.partial(DIGEST, len(BYTES)) as partial:
        partial.write(BYTES[:-1])
        with pytest.raises(BlobError, match=f"{len(BYTES)} bytes expected, {len(BYTES) + 1} received"):
            partial.write(b"ab")
        assert partial.offset == len(BYTES) - 1


def test_a_leftover_longer_than_the_blob_is_begun_anew(store: BlobStore) -> None:
    with store.partial(DIGEST, len(BYTES)) as partial:
        partial.write(BYTES[:500])
    with store.partial(DIGEST, 400) as partial:
        assert partial.offset == 0


def test_wrong_bytes_are_refused_and_forgotten(store: BlobStore) -> None:
    with store.partial(DIGEST, len(BYTES)) as partial:
        partial.write(bytes(len(BYTES)))
        with pytest.raises(BlobError, match="arrived with other bytes"):
            partial.finish()
    assert not store.has(DIGEST)
    with store.partial(DIGEST, len(BYTES)) as partial:
        assert partial.offset == 0


def test_an_incomplete_blob_is_refused_and_kept_for_the_next_attempt(store: BlobStore) -> None:
    with store.partial(DIGEST, len(BYTES)) as partial:
        partial.write(BYTES[:10])
        with pytest.raises(BlobError, match=f"incomplete: 10 of {len(BYTES)}"):
            partial.finish()
    with store.partial(DIGEST, len(BYTES)) as partial:
        assert partial.offset == 10


def test_a_discarded_pull_leaves_nothing(store: BlobStore) -> None:
    with store.partial(DIGEST, len(BYTES)) as partial:
        partial.write(BYTES[:10])
        partial.discard()
    with store.partial(DIGEST, len(BYTES)) as partial:
        assert partial.offset == 0


def test_one_blob_is_pulled_once_at_a_time(store: BlobStore) -> None:
    with (
        store.partial(DIGEST, len(BYTES)),
        store.partial(OTHER, 5),
        pytest.raises(RuntimeError, match="pulled already"),
    ):
        store.partial(DIGEST, len(BYTES))
    with store.partial(DIGEST, len(BYTES)) as partial:
        assert partial.offset == 0


def test_a_closed_pull_takes_no_more_bytes(store: BlobStore) -> None:
    partial = store.partial(DIGEST, len(BYTES))
    partial.close()
    partial.close()
    with pytest.raises(ValueError, match="closed"):
        partial.write(b"a")


# --- blobs that are not flushed -----------------------------------------------------------------------------


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed: "a file", or the name of a folder."""
    calls: list[str] = []
    for module in ("blobs", "partial"):
        monkeypatch.setattr(f"p2pfl.store.{module}.flush", lambda _descriptor: calls.append("a file"))
    monkeypatch.setattr("p2pfl.store.blobs.flush_folder", lambda folder: calls.append(folder.name))
    return calls


@pytest.mark.parametrize("bring", [put, pull])
def test_an_unflushed_blob_is_here_whole_without_a_flush(
    store: BlobStore, flushes: list[str], bring: Callable[..., str]
) -> None:
    digest = bring(store, BYTES, durable=False)
    assert store.path(digest).read_bytes() == BYTES
    assert store.size(digest) == len(BYTES)
    assert store.digests() == {digest}
    assert store.has(digest)
    assert not store.is_durable(digest)
    assert BlobReader(store.directory).has(digest)
    assert temporary(store) == []
    assert flushes == []


@pytest.mark.parametrize("bring", [put, pull])
def test_a_durable_blob_is_flushed_with_its_folder(
    store: BlobStore, flushes: list[str], bring: Callable[..., str]
) -> None:
    assert store.is_durable(bring(store, BYTES))
    assert flushes == ["a file", "blobs"]


def test_an_unflushed_blob_that_is_kept_is_durable_from_then_on(store: BlobStore, flushes: list[str]) -> None:
    digest = pull(store, BYTES, durable=False)
    store.keep(digest)
    assert flushes == ["a file", "blobs"]
    assert store.is_durable(digest)
    assert store.path(digest).read_bytes() == BYTES
    store.keep(digest)
    assert flushes == ["a file", "blobs"], "it was durable already"
    again = BlobStore(store.directory)
    again.recover(())
    assert again.digests() == {digest}


def test_keeping_a_blob_that_is_not_here_is_file_not_found(store: BlobStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.keep(DIGEST)
    assert not store.is_durable(DIGEST)


def test_a_pull_broken_off_may_end_as_the_other_kind_of_blob(store: BlobStore) -> None:
    with store.partial(DIGEST, len(BYTES), durable=False) as partial:
        partial.write(BYTES[:1000])
    with store.partial(DIGEST, len(BYTES)) as partial:
        assert partial.offset == 1000
        partial.write(BYTES[1000:])
        partial.finish()
    assert store.is_durable(DIGEST)


def test_bytes_that_are_update_and_model_at_once_stay_durable(store: BlobStore) -> None:
    # The average of one update has its bytes.
    for is_durable in (False, True, False):
        assert put(store, BYTES, durable=is_durable) == DIGEST
    assert store.is_durable(DIGEST)
    assert store.digests() == {DIGEST}
    again = BlobStore(store.directory)
    again.recover(())
    assert again.path(DIGEST).read_bytes() == BYTES


def cut_off_all(path: Path) -> None:
    path.write_bytes(b"")


def cut_off_half(path: Path) -> None:
    path.write_bytes(BYTES[: len(BYTES) // 2])


def fill_with_zeros(path: Path) -> None:
    path.write_bytes(bytes(len(BYTES)))


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("damage", [cut_off_all, cut_off_half, fill_with_zeros, Path.unlink])
def test_a_wanted_blob_that_a_power_cut_spoiled_is_none_after_a_start(
    store: BlobStore, damage: Callable[[Path], None], marked: bool
) -> None:
    damage(store.path(put(store, BYTES, durable=marked)))
    again = BlobStore(store.directory)
    again.recover({DIGEST})
    assert not again.has(DIGEST)
    assert put(again, BYTES, durable=False) == DIGEST, "nothing is in the way of a second one"
    assert not again.is_durable(DIGEST)


@pytest.mark.parametrize("bring", [put, pull])
@pytest.mark.parametrize("damage", [cut_off_all, cut_off_half, fill_with_zeros])
def test_a_blob_that_comes_again_takes_the_place_of_damaged_bytes_with_a_marker(
    store: BlobStore, damage: Callable[[Path], None], bring: Callable[..., str]
) -> None:
    damage(store.path(put(store, BYTES)))
    again = BlobStore(store.directory)
    again.recover(())
    assert again.is_durable(DIGEST), "nobody has read it yet"
    assert not again.is_intact(DIGEST)
    bring(again, BYTES, durable=False)
    assert again.path(DIGEST).read_bytes() == BYTES
    assert not again.is_durable(DIGEST)


def test_a_wanted_blob_that_is_whole_stays_durable_at_a_start(store: BlobStore) -> None:
    put(store, BYTES)
    again = BlobStore(store.directory)
    again.recover({DIGEST})
    assert again.is_durable(DIGEST)


def test_a_start_keeps_the_wanted_blob_that_is_whole_and_drops_other_unflushed_ones(store: BlobStore) -> None:
    wanted, model = put(store, BYTES, durable=False), pull(store, b"model")
    put(store, b"of a round gone by", durable=False)
    again = BlobStore(store.directory)
    again.recover({wanted})
    assert again.digests() == {wanted, model}
    assert not again.is_durable(wanted)


def test_after_a_crash_between_the_name_and_the_marker_of_a_blob_it_is_hashed_again_or_dropped(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "touch", die)
    with pytest.raises(KeyboardInterrupt):
        put(store, BYTES)
    assert not BlobStore(store.directory).is_durable(DIGEST)
    again = BlobStore(store.directory)
    again.recover(())
    assert not again.has(DIGEST)


def test_a_marker_without_its_blob_makes_no_later_blob_durable(store: BlobStore) -> None:
    put(store, BYTES)
    store.path(DIGEST).unlink()  # by a person who tidied up
    put(store, BYTES, durable=False)
    assert not store.is_durable(DIGEST)
    put(store, BYTES)
    store.path(DIGEST).unlink()
    BlobStore(store.directory).recover({DIGEST})
    assert [path.name for path in store.directory.iterdir()] == ["tmp"]


def test_keeping_a_blob_that_is_collected_meanwhile_is_told_and_marks_nothing(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, BYTES, durable=False)
    monkeypatch.setattr("p2pfl.store.blobs.flush", lambda _: store.collect(NOTHING))
    with pytest.raises(DataDirectoryError, match="is not there"):
        store.keep(DIGEST)
    assert [path.name for path in store.directory.iterdir()] == ["tmp"]


# --- collecting ---------------------------------------------------------------------------------------------


def test_collect_removes_unneeded_blobs_and_broken_pulls_and_delete_deletes_them(
    store: BlobStore,
) -> None:
    kept, unflushed = pull(store, b"kept"), pull(store, b"kept too", durable=False)
    doomed = [pull(store, b"doomed"), put(store, b"doomed too", durable=False)]
    for digest in (DIGEST, OTHER):
        with store.partial(digest, 5) as partial:
            partial.write(b"o")
    files = store.collect({kept, unflushed, OTHER})
    assert store.digests() == {kept, unflushed}
    assert not any(store.has(digest) for digest in doomed)
    assert sorted(path.read_bytes() for path in files) == [b"doomed", b"doomed too", b"o"]
    store.delete(files)
    store.delete(files)
    assert temporary(store) == [f"{OTHER}.part"]


def test_what_was_taken_out_but_not_deleted_is_gone_after_a_start(store: BlobStore) -> None:
    put(store, BYTES)
    assert store.collect(NOTHING)
    again = BlobStore(store.directory)
    assert again.digests() == frozenset()
    assert temporary(again) == []


def test_a_pinned_blob_stays_until_it_was_unpinned_as_often_as_pinned(store: BlobStore) -> None:
    put(store, BYTES)
    for _ in range(2):
        store.pin(DIGEST)
    store.unpin(DIGEST)
    assert store.is_pinned(DIGEST)
    assert store.collect(NOTHING) == []
    assert store.is_durable(DIGEST)
    store.unpin(DIGEST)
    assert not store.is_pinned(DIGEST)
    assert len(store.collect(NOTHING)) == 1
    assert not store.has(DIGEST)
    with pytest.raises(KeyError):
        store.unpin(DIGEST)


def test_collect_spares_pulls_under_way_and_files_the_worker_writes(store: BlobStore) -> None:
    written = store.new_path()
    written.write_bytes(BYTES)
    with store.partial(OTHER, 5) as partial:
        partial.write(b"oth")
        assert store.collect(NOTHING) == []
        partial.write(b"er")
        partial.finish()
    store.adopt(written, DIGEST)
    assert store.digests() == {DIGEST, OTHER}


def test_what_becomes_needed_while_collect_is_under_way_stays(store: BlobStore) -> None:
    put(store, BYTES, durable=False)
    put(store, b"other", durable=False)

    class Pinning(frozenset[str]):
        def __contains__(self, digest: object) -> bool:
            for each in {DIGEST, OTHER} - {digest}:  # the one seen first is not needed, the other one is
                store._pins[each] = 1  # as another thread may do between two blobs
            return False

    assert len(store.collect(Pinning())) == 1
    assert len(store.digests()) == 1


def test_a_file_that_cannot_be_moved_is_left_and_collect_goes_on(
    store: BlobStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed, stuck = pull(store, b"doomed"), pull(store, BYTES)
    real = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if path.name == stuck:
            raise PermissionError(13, "it is open elsewhere")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    store.collect(NOTHING)
    assert not store.has(doomed)
    assert store.has(stuck)
    assert f"cannot delete the unused blob {stuck}" in caplog.text


def test_a_file_that_cannot_be_deleted_is_told_and_the_others_are_deleted(
    store: BlobStore, caplog: pytest.LogCaptureFixture
) -> None:
    pull(store, b"doomed")
    folder = store.directory / "tmp" / "a folder"
    folder.mkdir()
    store.delete([folder, *store.collect(NOTHING)])
    assert temporary(store) == ["a folder"]
    assert f"cannot delete {folder}" in caplog.text


# --- the disk -----------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_with_the_path_and_keeps_what_arrived(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("p2pfl.store.partial.flush", refuse)
    with store.partial(DIGEST, len(BYTES)) as partial:
        partial.write(BYTES)
        with pytest.raises(DataDirectoryError, match=f"{DIGEST}: the disk is full; free some space"):
            partial.finish()
    assert not store.has(DIGEST)
    with store.partial(DIGEST, len(BYTES)) as partial:
        assert partial.offset == len(BYTES)


def test_a_failed_early_flush_is_not_forgotten(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # The system reports a lost write to one flush only: the last flush may well succeed.
    real, calls = os.fsync, []

    def fail_first(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(5, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(durable, "EARLY_FLUSH_BYTES", 1000)
    monkeypatch.setattr(os, "fsync", fail_first)
    with store.partial(DIGEST, len(BYTES)) as partial:
        partial.write(BYTES)
        with pytest.raises(DataDirectoryError, match="check the disk"):
            partial.finish()
    assert not store.has(DIGEST)


def test_a_long_blob_flushed_on_the_way_is_whole(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "EARLY_FLUSH_BYTES", 1000)
    with store.partial(DIGEST, len(BYTES)) as partial:
        for start in range(0, len(BYTES), 700):
            partial.write(BYTES[start : start + 700])
        partial.finish()
    assert store.path(DIGEST).read_bytes() == BYTES


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_blobs_are_for_this_user_only(store: BlobStore) -> None:
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700


def test_a_file_in_the_folder_s_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(DataDirectoryError, match="is a file, not a folder"):
        BlobStore(tmp_path / "file")


def test_a_reader_makes_nothing(tmp_path: Path) -> None:
    reader = BlobReader(tmp_path / "none")
    assert reader.digests() == frozenset()
    assert not reader.has(DIGEST)
    assert list(tmp_path.iterdir()) == []


def test_free_space_is_told_in_bytes(store: BlobStore) -> None:
    assert store.free_bytes() > 0


def test_a_discarded_blob_is_gone_durable_or_not_and_another_stays(store: BlobStore) -> None:
    durable, unflushed = put(store, BYTES), put(store, b"unflushed", durable=False)
    other = put(store, b"other")
    for digest in (durable, unflushed, "0" * 64):
        store.discard(digest)
        assert not store.has(digest)
    assert store.has(other)


# --- frozen tensors -----------------------------------------------------------------------------------------


def test_frozen_tensors_leave_the_blobs_for_good_and_are_read_as_one(store: BlobStore) -> None:
    digest = put(store, BYTES)
    assert not store.has_frozen(digest)
    store.move_frozen(digest)
    assert store.has_frozen(digest)
    assert not store.is_durable(digest)
    assert store.collect(NOTHING) == []
    with store.reading(digest) as file:
        assert file.read() == BYTES
    assert {path.name for path in store.directory.iterdir()} == {"tmp"}


def test_damaged_frozen_tensors_are_deleted(store: BlobStore) -> None:
    digest = put(store, BYTES)
    store.move_frozen(digest)
    path = store.directory.parent / "frozen" / digest
    path.write_bytes(BYTES[:-1])
    assert not store.has_frozen(digest)
    assert not path.exists()


def test_no_text_of_a_peer_names_a_file_of_frozen_tensors(store: BlobStore) -> None:
    with pytest.raises(BlobError, match="no blob's name"):
        store.has_frozen("../key")
    with pytest.raises(BlobError, match="no blob's name"), store.reading("../key"):
        pass
    with pytest.raises(FileNotFoundError), store.reading(OTHER):
        pass
