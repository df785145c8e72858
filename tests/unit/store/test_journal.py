from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.core.effects import (
    Save,
    SaveAccepted,
    SaveClosed,
    SaveCommit,
    SaveGenesis,
    SavePromise,
    SaveReport,
    SaveResumed,
    SaveSeen,
    SaveUpdate,
)
from p2pfl.core.saved import Saved, Vote
from p2pfl.errors import ClonedError, DataDirectoryError
from p2pfl.messages import Ballot, LeftOut, Member, Record, record_digest
from p2pfl.proofs import CastVote, Claim, JournalEvidence, casts_of, sign_claim
from p2pfl.store.database import DamagedJournalError, open_writable
from p2pfl.store.journal import Journal
from tests.support.keys import signer
from tests.support.records import (
    NAMES,
    Chain,
    digest,
    evaluation,
    evaluations,
    genesis,
    journal,
    node,
    resigned,
    roster,
    signed,
    update,
)

ME = node("ada")


def claim(incarnation: int, nonce: str, votes: int = 0) -> Claim:
    """What ben says of its journal."""
    return sign_claim(signer("ben"), Member(node("ben"), journal("ben")), incarnation, nonce, votes)


def cast(chain: Chain, votes: int) -> CastVote:
    """Promise number *votes* of ben, of ballot 2 of round 1."""
    voted_for = Ballot(2, node("cleo"))
    return CastVote(chain.run, 1, voted_for, "", signed("ben", chain.run, 1, voted_for, votes=votes))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def book(path: Path) -> Iterator[Journal]:
    with Journal.open(path, ME) as opened:
        yield opened


def begin(book: Journal, chain: Chain) -> None:
    book.save(SaveGenesis(chain.run, chain.genesis))


def commit(book: Journal, chain: Chain, **options: object) -> None:
    book.save(SaveCommit(chain.run, chain.commit(**options), 1.5))  # type: ignore[arg-type]


# --- opening ------------------------------------------------------------------------------------------------


def test_a_new_journal_remembers_nothing_and_has_started_once(book: Journal) -> None:
    assert book.load() == Saved(current=None, votes={}, closed=frozenset())
    assert book.member.node == ME
    assert len(book.member.journal) == 32
    assert book.incarnation == 1


def test_each_start_counts_and_keeps_the_journal_id(path: Path) -> None:
    members, incarnations = [], []
    for _ in range(3):
        with Journal.open(path, ME) as book:
            members.append(book.member)
            incarnations.append(book.incarnation)
    assert len(set(members)) == 1
    assert incarnations == [1, 2, 3]


def test_a_journal_of_another_node_is_refused_and_unchanged(path: Path) -> None:
    Journal.open(path, ME).close()
    with pytest.raises(
        DataDirectoryError, match=r"belongs to node adakitd.*certificate is of node benmwug.*--new-journal"
    ):
        Journal.open(path, node("ben"))
    with Journal.open(path, ME) as book:
        assert book.incarnation == 2


def test_a_new_journal_forgets_votes_and_updates_and_keeps_records(path: Path) -> None:
    chain = Chain()
    with Journal.open(path, ME) as book:
        old = book.member
        begin(book, chain)
        commit(book, chain)
        book.save(SavePromise(chain.run, 2, Ballot(3, node("ben")), 1))
        book.save(SaveUpdate(chain.run, 2, record_digest(chain.commits[0].record), update("ada", 2)))
    with Journal.open(path, node("ben"), new_journal=True) as book:
        saved = book.load()
        assert book.member.node == node("ben")
        assert book.member.journal != old.journal
        assert book.incarnation == 1
    assert saved.votes == {}
    assert saved.current is not None
    assert saved.current.last == chain.commits[0]
    assert saved.current.update is None


@pytest.mark.parametrize("version", [1, 2, 4])
def test_a_journal_of_another_version_is_refused_with_what_to_do(path: Path, version: int) -> None:
    Journal.open(path, ME).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    sentence = (
        f"has schema version {version}, this p2pfl knows version 3; use the version of p2pfl that wrote it"
    )
    with pytest.raises(DataDirectoryError, match=sentence):
        Journal.open(path, ME)


def test_another_program_s_database_is_refused_and_unchanged(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    with pytest.raises(DataDirectoryError, match="is not a journal of p2pfl"):
        Journal.open(path, ME)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    connection.close()


def test_a_crash_before_the_tables_were_made_leaves_a_new_journal(path: Path) -> None:
    path.touch()
    with Journal.open(path, ME) as book:
        assert book.incarnation == 1


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be taken for one" * 40, b"SQLite format 3\0junk"]
)
def test_a_damaged_file_is_told_with_what_to_do(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DataDirectoryError, match=r"is damaged.*start this node with --new-journal"):
        Journal.open(path, ME)


def test_a_damaged_record_is_told_with_what_to_do(path: Path) -> None:
    chain = Chain()
    with Journal.open(path, ME) as book:
        begin(book, chain)
        commit(book, chain)
    connection = open_writable(path)  # which keeps the checksum
    connection.execute("UPDATE commits SET entry = x'00'")
    connection.close()
    with (
        Journal.open(path, ME) as book,
        pytest.raises(DataDirectoryError, match="a Commit in it cannot be read"),
    ):
        book.load()


def test_a_journal_in_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataDirectoryError, match="unable to open database file; check"):
        Journal.open(tmp_path / "none" / "journal.sqlite", ME)


# --- votes --------------------------------------------------------------------------------------------------

BALLOTS = st.builds(Ballot, st.integers(1, 4), st.sampled_from([node("ada"), node("ben"), node("cleo")]))
VOTES = st.lists(st.tuples(st.booleans(), st.integers(1, 3), BALLOTS), max_size=12)


@settings(max_examples=40, deadline=None)
@given(votes=VOTES)
def test_votes_only_rise_and_are_the_same_after_a_restart(votes: list[tuple[bool, int, Ballot]]) -> None:
    chain = Chain()
    values = {round_: chain.commit().record for round_ in (1, 2, 3)}
    expected: Vote | None = None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal.sqlite")
        with Journal.open(path, ME) as book:
            for count, (accepting, round_, ballot) in enumerate(votes, start=1):
                record = values[round_]
                effect = (
                    SaveAccepted(chain.run, round_, ballot, record, count)
                    if accepting
                    else SavePromise(chain.run, round_, ballot, count)
                )
                if expected is not None and (round_, ballot) < (expected.round, expected.promised):
                    with pytest.raises(RuntimeError, match="would take back the promise"):
                        book.save(effect)
                    continue
                book.save(effect)
                kept = expected if expected is not None and expected.round == round_ else None
                accepted: tuple[Ballot | None, Record | None]
                accepted = (ballot, record) if accepting else (None, None)
                if not accepting and kept is not None:
                    accepted = (kept.accepted_ballot, kept.accepted)
                expected = Vote(round_, ballot, *accepted)
        with Journal.open(path, ME) as again:
            assert again.load().votes.get(chain.run) == expected


def test_a_ballot_never_carries_two_values(book: Journal) -> None:
    one, other = Chain(), Chain()
    ballot = Ballot(1, node("ben"))
    accepted = SaveAccepted(one.run, 1, ballot, one.commit().record, 1)
    book.save(accepted)
    book.save(SaveAccepted(one.run, 1, ballot, accepted.record, 2))
    with pytest.raises(RuntimeError, match="accepted with another record"):
        book.save(SaveAccepted(one.run, 1, ballot, other.commit(note="another").record, 3))
    assert book.load().votes[one.run].accepted == accepted.record


def test_votes_are_kept_for_each_run_also_a_closed_one(book: Journal) -> None:
    left, entered = Chain(genesis(nonce="01" * 16)), Chain(genesis(nonce="02" * 16))
    begin(book, left)
    book.save(SavePromise(left.run, 1, Ballot(7, node("ben")), 1))
    book.save_all([SaveClosed(left.run), SaveGenesis(entered.run, entered.genesis)])
    book.save(SavePromise(entered.run, 1, Ballot(1, node("ada")), 2))
    saved = book.load()
    assert {run: vote.promised for run, vote in saved.votes.items()} == {
        left.run: Ballot(7, node("ben")),
        entered.run: Ballot(1, node("ada")),
    }
    assert saved.closed == {left.run}
    assert saved.current is not None
    assert saved.current.run == entered.run


def test_a_vote_of_a_decided_round_is_not_loaded_any_more(book: Journal) -> None:
    chain = Chain()
    begin(book, chain)
    commit = chain.commit()
    book.save(SaveAccepted(chain.run, 1, commit.ballot, commit.record, 1))
    assert set(book.load().votes) == {chain.run}
    book.save(SaveCommit(chain.run, commit, 1.0))
    assert book.load().votes == {}
    assert book.votes()[chain.run].accepted == commit.record


def test_effects_saved_together_are_saved_all_or_none(book: Journal) -> None:
    chain = Chain()
    book.save(SavePromise(chain.run, 2, Ballot(2, node("ben")), 1))
    with pytest.raises(RuntimeError):
        book.save_all(
            [SaveGenesis(chain.run, chain.genesis), SavePromise(chain.run, 1, Ballot(9, node("ben")), 2)]
        )
    assert book.runs() == []
    begin(book, chain)
    assert [row.run for row in book.runs()] == [chain.run]


# --- runs ---------------------------------------------------------------------------------------------------


def test_a_run_is_loaded_with_its_last_commit_and_the_update_trained_from_it(book: Journal) -> None:
    chain = Chain()
    begin(book, chain)
    book.save(SaveUpdate(chain.run, 1, chain.run, update("ada", 1)))
    first = book.load().current
    commit(book, chain)
    second = book.load().current
    book.save(SaveUpdate(chain.run, 2, record_digest(chain.commits[0].record), update("ada", 2)))
    third = book.load().current
    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.genesis, first.last, first.update) == (chain.genesis, None, update("ada", 1))
    assert (second.last, second.update) == (chain.commits[0], None)
    assert (third.last, third.update) == (chain.commits[0], update("ada", 2))


def test_a_run_is_loaded_with_who_voted_for_its_last_commit_and_the_model_before(book: Journal) -> None:
    chain = Chain()
    begin(book, chain)
    loaded = []
    for next_roster in (roster("ada", "ben"), roster("ada")):
        book.save(SaveCommit(chain.run, chain.commit(next_roster=next_roster), 1.0))
        current = book.load().current
        assert current is not None
        loaded.append((current.voters, current.parent))
    assert loaded == [
        (chain.genesis.roster, chain.genesis.blobs),
        (roster("ada", "ben"), chain.commits[0].record.blobs),
    ]


def test_an_update_trained_from_another_record_is_not_offered_again(book: Journal) -> None:
    chain = Chain()
    begin(book, chain)
    book.save(SaveUpdate(chain.run, 1, digest("another record"), update("ada", 1)))
    current = book.load().current
    assert current is not None
    assert current.update is None


def test_a_lifted_pause_stays_lifted_until_the_next_round(book: Journal) -> None:
    chain = Chain()
    begin(book, chain)
    commit(book, chain, then="pause")
    steps: tuple[Callable[[], object], ...] = (
        lambda: None,
        lambda: book.save(SaveResumed(chain.run, 1)),
        lambda: commit(book, chain, then="pause"),
    )
    resumed = []
    for step in steps:
        step()
        current = book.load().current
        assert current is not None
        resumed.append(current.resumed)
    assert resumed == [False, True, False]


def test_a_closed_run_entered_again_is_the_current_and_newest_one(book: Journal) -> None:
    first, second = Chain(genesis(nonce="01" * 16)), Chain(genesis(nonce="02" * 16))
    for effect in (
        SaveGenesis(first.run, first.genesis),
        SaveClosed(first.run),
        SaveGenesis(second.run, second.genesis),
        SaveClosed(second.run),
        SaveGenesis(first.run, first.genesis),
    ):
        book.save(effect)
    saved = book.load()
    assert saved.current is not None
    assert saved.current.run == first.run
    assert saved.closed == {second.run}
    assert [row.run for row in book.runs()] == [second.run, first.run]


def test_record_0_under_a_foreign_run_id_is_a_bug(book: Journal) -> None:
    with pytest.raises(RuntimeError, match="not the run id"):
        book.save(SaveGenesis(digest("another"), genesis()))


# --- commits ------------------------------------------------------------------------------------------------


def test_commits_out_of_order_are_a_bug(book: Journal) -> None:
    chain = Chain()
    begin(book, chain)
    chain.commit()
    skipping = chain.commit()
    with pytest.raises(RuntimeError, match="does not follow"):
        book.save(SaveCommit(chain.run, skipping, 1.0))
    assert book.last_commit(chain.run) is None


def test_the_same_commit_again_changes_nothing(path: Path) -> None:
    chain = Chain()
    with Journal.open(path, ME) as book:
        begin(book, chain)
        commit(book, chain)
        book.save(SaveCommit(chain.run, chain.commits[0], 99.0))
    with Journal.open(path, ME) as book:
        assert [row.seconds for row in book.rounds(chain.run)] == [1.5]


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_contradicting_commit_is_kept_as_evidence_and_stops_every_later_start(
    path: Path, beyond: int
) -> None:
    one, other = Chain(), Chain()
    foreign = [other.commit(note="another"), other.commit()][beyond]
    with Journal.open(path, ME) as book:
        begin(book, one)
        commit(book, one)
        book.save(SaveCommit(one.run, foreign, 1.0))
        assert book.last_commit(one.run) == one.commits[0]
    for new_journal in (False, True):
        with pytest.raises(DataDirectoryError, match=f"two different histories up to round {1 + beyond}"):
            Journal.open(path, ME, new_journal=new_journal)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT round FROM conflicts").fetchall() == [(1 + beyond,)]
    connection.close()


# --- peers --------------------------------------------------------------------------------------------------


def test_starts_of_peers_are_remembered_for_each_of_their_journals(path: Path) -> None:
    peer = Member(node("ben"), journal("ben"))
    with Journal.open(path, ME) as book:
        assert book.seen(peer) is None
        book.save_claim(peer, claim(3, "ab" * 16))
        book.save_claim(peer, claim(4, "cd" * 16))
    with Journal.open(path, ME) as book:
        assert book.seen(peer) == JournalEvidence(claim(4, "cd" * 16))
        assert book.seen(Member(node("ben"), journal("new"))) is None


def test_the_newest_vote_of_a_peer_is_remembered_beside_what_it_claimed(path: Path) -> None:
    peer, chain = Member(node("ben"), journal("ben")), Chain()
    with Journal.open(path, ME) as book:
        book.save(SaveSeen((cast(chain, 7), cast(chain, 5)), at_once=True))
        assert book.seen(peer) == JournalEvidence(None, cast(chain, 7))
        book.save_claim(peer, claim(3, "ab" * 16, votes=2))
        assert book.incarnations() == {peer: (3, 7)}
        book.save(SaveSeen((cast(chain, 6),), at_once=False))
    with Journal.open(path, ME) as book:
        assert book.seen(peer) == JournalEvidence(claim(3, "ab" * 16, votes=2), cast(chain, 7))
        assert book.incarnations() == {peer: (3, 7)}


def test_the_acceptances_in_a_commit_are_remembered_with_it(book: Journal) -> None:
    chain = Chain()
    begin(book, chain)
    made = resigned(chain.commit(), votes=3)
    book.save(SaveCommit(chain.run, made, 1.0))
    ada, ben = casts_of(made)
    assert book.seen(ben.vote.member) == JournalEvidence(None, ben)
    assert book.seen(ada.vote.member) == JournalEvidence(None, ada), "of another journal of this very node"


# --- votes counted ------------------------------------------------------------------------------------------


def test_every_vote_is_counted_with_itself_and_a_new_journal_begins_anew(path: Path) -> None:
    chain = Chain()
    record = chain.commit().record
    with Journal.open(path, ME) as book:
        assert book.votes_cast == book.load().votes_cast == 0
        book.save(SavePromise(chain.run, 1, record.ballot, 1))
        book.save(SaveAccepted(chain.run, 1, record.ballot, record, 2))
        assert book.votes_cast == 2
        with pytest.raises(RuntimeError, match="numbered 2, not higher"):
            book.save(SavePromise(chain.run, 1, Ballot(9, node("ben")), 2))
        assert book.votes_cast == 2
    with Journal.open(path, ME) as book:
        assert book.votes_cast == book.load().votes_cast == book.votes_cast_so_far() == 2
    with Journal.open(path, ME, new_journal=True) as book:
        assert book.votes_cast == book.load().votes_cast == 0


@pytest.mark.parametrize("attempt", [0, 2**31 + 1, 2**53])
def test_nothing_is_saved_that_could_not_be_read_again(book: Journal, attempt: int) -> None:
    chain = Chain()
    ballot, record = Ballot(attempt, node("ben")), chain.commit().record
    for vote in (SavePromise(chain.run, 1, ballot, 1), SaveAccepted(chain.run, 1, ballot, record, 1)):
        with pytest.raises(RuntimeError, match="could not read it again"):
            book.save(vote)
    assert book.load().votes == {}


def test_a_vote_that_is_not_saved_is_not_counted(book: Journal) -> None:
    chain = Chain()
    book.save(SavePromise(chain.run, 2, Ballot(5, node("ben")), 1))
    with pytest.raises(RuntimeError, match="would take back"):
        book.save(SavePromise(chain.run, 1, Ballot(5, node("ben")), 2))
    assert book.votes_cast == book.load().votes_cast == 1


def test_a_refused_journal_is_refused_at_every_start_until_it_is_a_new_one(path: Path) -> None:
    with Journal.open(path, ME) as book:
        book.refuse("ben has seen later votes. Start with --new-journal")
        incarnation = book.incarnation
    for _ in range(3):
        with pytest.raises(
            ClonedError, match=r"must not be used as it is.*ben has seen later votes.*--new-j"
        ):
            Journal.open(path, ME)
    with Journal.open(path, ME, new_journal=True):
        pass
    with Journal.open(path, ME) as book:
        assert book.incarnation == 2
    assert incarnation == 1


# --- threads and crashes ------------------------------------------------------------------------------------


def test_threads_may_share_a_journal(book: Journal) -> None:
    chain = Chain()
    begin(book, chain)

    def report(name: str) -> None:
        for round_ in range(1, 20):
            book.save(SaveReport(chain.run, round_, node(name), evaluation(correct=1, total=2, loss=1.0)))
            book.load()

    threads = [threading.Thread(target=report, args=(name,)) for name in NAMES[:4]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    commit(book, chain)
    assert [row.examples for row in book.rounds(chain.run)] == [8]


CHILD = """
import sys
from pathlib import Path
from p2pfl.core.effects import SavePromise
from p2pfl.messages import Ballot
from p2pfl.store.journal import Journal
book = Journal.open(Path(sys.argv[1]), sys.argv[2])
attempt = 0
while True:
    attempt += 1
    book.save(SavePromise("f" * 64, 1, Ballot(attempt, sys.argv[2]), attempt))
    print(attempt, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_a_killed_process_has_lost_no_promise_it_returned_from(path: Path) -> None:
    for start in (1, 2, 3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), ME], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        with child.stdout as output:
            told = 0
            for line in output:
                told = int(line)
                if told == 20 * start:
                    child.send_signal(signal.SIGKILL)
                    break
            rest = [int(line) for line in output]
        child.wait()
        told = rest[-1] if rest else told
        with Journal.open(path, ME) as book:
            vote = book.load().votes["f" * 64]
            assert book.incarnation == 2
            assert vote.promised is not None
            assert vote.promised.attempt in (told, told + 1)
        path.unlink()


# --- a disk that refuses ------------------------------------------------------------------------------------


def test_a_full_disk_is_told_takes_nothing_and_the_same_goes_on_when_there_is_room(
    path: Path, book: Journal
) -> None:
    chain = Chain()
    begin(book, chain)
    made = chain.commit(left_out=(LeftOut(node("eve"), "x" * 300),) * 250)
    (pages,) = book._connection.execute("PRAGMA page_count").fetchone()
    book._connection.execute(f"PRAGMA max_page_count = {pages}")
    effects: list[Save] = [
        SavePromise(chain.run, 1, made.ballot, 1),
        SaveAccepted(chain.run, 1, made.ballot, made.record, 2),
    ]
    with pytest.raises(DataDirectoryError, match="is full; check that the disk is not full"):
        book.save_all(effects)
    assert book.load().votes == {}
    book._connection.execute("PRAGMA max_page_count = 4294967294")
    book.save_all(effects)
    with Journal.open(path, ME) as again:
        assert again.load().votes[chain.run].promised == made.ballot


def test_a_read_only_journal_is_told_and_unchanged(path: Path, book: Journal) -> None:
    book._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(DataDirectoryError, match=r"readonly database; check .* that this user may write"):
        book.save(SavePromise("f" * 64, 1, Ballot(1, node("ben")), 1))
    assert book.load().votes == {}


# --- long runs ----------------------------------------------------------------------------------------------

ROUNDS = 2000

BYTES_A_ROUND = 4500
"""What a committed round of three members takes on disk at most: 2 KB of record and proof, in whole pages."""


def test_thousands_of_rounds_leave_nothing_but_their_records(path: Path) -> None:
    chain = Chain()
    three = evaluations((8, 10), (9, 10), (7, 10))
    with Journal.open(path, ME) as book:
        begin(book, chain)
        effects: list[Save] = []
        for round_ in range(1, ROUNDS + 1):
            made = chain.commit(evaluated=three if round_ > 1 else ())
            effects += [
                SaveUpdate(chain.run, round_, made.record.previous, made.record.updates[0]),
                SavePromise(chain.run, round_, made.ballot, 2 * round_ - 1),
                SaveAccepted(chain.run, round_, made.ballot, made.record, 2 * round_),
                SaveCommit(chain.run, made, 1.0),
                *(SaveReport(chain.run, round_, entry.node, entry.evaluation) for entry in three),
            ]
            if round_ % 50 == 0:  # a transaction a round would test the disk's patience, and nothing else
                book.save_all(effects)
                book.save_claim(Member(node("ben"), journal("ben")), claim(round_, "0" * 32))
                effects.clear()
        tables = ("commits", "votes", "updates", "reports", "incarnations", "runs")
        rows = {table: book._all(f"SELECT count(*) FROM {table}")[0][0] for table in tables}
    assert rows == {"commits": ROUNDS, "votes": 1, "updates": 1, "reports": 3, "incarnations": 2, "runs": 1}
    assert sum(file.stat().st_size for file in path.parent.iterdir()) < ROUNDS * BYTES_A_ROUND


def test_a_run_is_loaded_with_the_last_round_that_paused_or_ended_it(book: Journal) -> None:
    chain = Chain()
    begin(book, chain)

    def settled() -> int:
        current = book.load().current
        assert current is not None
        return current.settled

    assert settled() == 0
    for then, expected in (("go", 0), ("pause", 2), ("go", 2), ("end", 4), ("go", 4)):
        commit(book, chain, then=then, note='"then": "end", then\u00a3end')
        assert settled() == expected


# --- lost bits ----------------------------------------------------------------------------------------------


def _full(path: Path) -> Journal:
    """Return an open journal with rows in every table but that of conflicts."""
    book = Journal.open(path, ME)
    chain, other = Chain(), Chain(genesis(nonce="11" * 16))
    begin(book, other)
    begin(book, chain)
    for number in range(1, 13):
        book.save(SavePromise(chain.run, number, Ballot(1, ME), 2 * number - 1))
        record = chain.commit(evaluated=evaluations((3, 4)))
        book.save(SaveAccepted(chain.run, number, Ballot(1, ME), record.record, 2 * number))
        book.save(SaveCommit(chain.run, record, 1.5))
        book.save(SaveReport(chain.run, number, node("ben"), evaluation(3, 4, 2.0)))
    book.save(SaveUpdate(chain.run, 13, record_digest(record.record), update("ada", 13)))
    book.save(SavePromise(chain.run, 13, Ballot(2, node("ben")), 25))
    book.save_claim(Member(node("ben"), journal("ben")), claim(7, "ab" * 16))
    return book


def _content(path: Path) -> object:
    with Journal.open(path, ME) as book:
        run = book.load().current
        assert run is not None
        return (
            book.remark,
            book.member,
            book.incarnation,
            book.load(),
            book.votes(),
            book.votes_cast,
            book.incarnations(),
            book.seen(Member(node("ben"), journal("ben"))),
            list(book.commits(run.run)),
            list(book.rounds(run.run)),
        )


def _told(path: Path) -> object:
    """Open the journal at *path*; return what it holds, or True where damage is told."""
    try:
        content = _content(path)
    except DataDirectoryError:
        return True
    return True if content[0] else content  # type: ignore[index]


def _flip(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_every_bit_lost_in_the_file_is_told_or_changes_nothing(tmp_path: Path) -> None:
    _full(tmp_path / "whole").close()
    whole, flipped = (tmp_path / "whole").read_bytes(), tmp_path / "flipped"
    sound = _content(tmp_path / "whole")
    drawn, told = random.Random(12), 0
    for _ in range(BITS):
        bit = drawn.randrange(8 * len(whole))
        flipped.write_bytes(_flip(whole, bit))
        found = _told(flipped)
        assert found in (True, sound), f"bit {bit} changed what the journal says, and nothing was told"
        told += found is True
        for end in ("", "-wal", "-shm"):
            flipped.with_name(flipped.name + end).unlink(missing_ok=True)
    assert told > BITS / 4, "much of a short journal is unused"


def test_a_bit_lost_in_the_log_of_a_killed_node_is_told_unless_it_is_in_its_last_transaction(
    tmp_path: Path,
) -> None:
    whole, flipped = tmp_path / "whole", tmp_path / "flipped"
    with _full(whole) as book:
        length = (tmp_path / "whole-wal").stat().st_size
        book.save_claim(Member(node("cleo"), journal("cleo")), claim(1, "ab" * 16))
        shutil.copyfile(whole, flipped)
        log = (tmp_path / "whole-wal").read_bytes()
    drawn = random.Random(12)
    for _ in range(BITS // 4):
        bit = drawn.randrange(8 * 24, 8 * (length - 5000))
        (tmp_path / "flipped-wal").write_bytes(_flip(log, bit))
        with pytest.raises(DamagedJournalError, match=r"its log lost what was flushed.*--new-journal"):
            Journal.open(flipped, ME)
    (tmp_path / "flipped-wal").write_bytes(log[:-9] + bytes(9))  # torn by a power cut
    Journal.open(flipped, ME).close()


BITS = 200
"""Flipped in each test, one by one."""


def test_lost_bits_where_no_vote_rests_cost_that_row_and_are_told(path: Path) -> None:
    book = _full(path)
    for table in ("updates", "reports", "incarnations"):
        book._connection.execute(f"UPDATE checksums SET value = x'00' WHERE holder = '{table}'")
    book.close()
    with Journal.open(path, ME) as book:
        assert "this device's last update, which is trained again" in book.remark
        saved = book.load().current
        assert saved is not None
        assert (saved.update, saved.last is not None) == (None, True)
        assert book.incarnations() == {}
    with Journal.open(path, ME) as book:
        assert book.remark == ""


@pytest.mark.parametrize("table", ["self", "runs", "votes", "commits"])
@pytest.mark.parametrize("damage", ["UPDATE checksums SET value = x'00'", "DELETE FROM checksums"])
def test_lost_bits_where_votes_rest_end_the_start_until_a_new_journal_is_begun(
    path: Path, table: str, damage: str
) -> None:
    book = _full(path)
    member = book.member
    book._connection.execute(f"{damage} WHERE holder = '{table}'")
    book.close()
    for _ in range(2):
        with pytest.raises(DamagedJournalError, match=f"its table {table} does not match.*--new-journal"):
            Journal.open(path, ME)
    with Journal.open(path, ME, new_journal=True) as book:
        assert "the journal was damaged: it is kept as journal.sqlite.damaged-1" in book.remark
        assert book.member != member
        assert book.load().current is None
    assert path.with_name("journal.sqlite.damaged-1").is_file()


@pytest.mark.parametrize("loss", ["votes = votes - 1", "refused = ''"])
def test_a_vote_counter_or_a_mark_of_a_copy_that_lost_bits_ends_the_start(path: Path, loss: str) -> None:
    book = _full(path)
    book.refuse("ben has seen later votes")
    ((before,),) = book._all("SELECT value FROM checksums WHERE holder = 'self'")
    book._connection.execute(f"UPDATE self SET {loss}")
    book._connection.execute("UPDATE checksums SET value = ? WHERE holder = 'self'", (before,))
    book.close()
    with pytest.raises(DamagedJournalError, match="its table self does not match"):
        Journal.open(path, ME)
