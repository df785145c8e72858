from __future__ import annotations

import msgspec

from p2pfl.core.effects import (
    SaveAccepted,
    SaveClosed,
    SaveCommit,
    SaveGenesis,
    SavePromise,
    SaveRefused,
    SaveResumed,
    SaveSeen,
    SaveUpdate,
)
from p2pfl.core.saved import SavedRun, Vote
from p2pfl.messages import Member, Origin, record_digest
from p2pfl.proofs import CastVote, JournalEvidence, sign_claim
from p2pfl.sim.disk import RECORDS_AT_ONCE, Disk
from tests.support.core import ballot, chain_of, member
from tests.support.keys import signer
from tests.support.known import known
from tests.support.records import NAMES, Chain, controlled, resigned, signed, update

CLAIM = sign_claim(signer("ben"), member("ben"), 3, "ab" * 16, 0)


def in_run(chain: Chain) -> Disk:
    disk = Disk(member("ada"))
    disk.save(SaveGenesis(chain.run, chain.genesis))
    for commit in chain.commits:
        disk.save(SaveCommit(chain.run, commit, 1.0))
    return disk


def test_a_new_disk_remembers_nothing() -> None:
    saved = Disk(member("ada")).load()
    assert (saved.current, saved.votes, saved.closed) == (None, {}, frozenset())


def test_the_run_comes_back_with_its_last_commit_and_its_resumption() -> None:
    chain = chain_of(*NAMES[:3], rounds=2)
    disk = in_run(chain)
    disk.save(SaveResumed(chain.run, 2))
    first, last = chain.commits
    expected = SavedRun(
        chain.run,
        chain.genesis,
        last,
        None,
        resumed=True,
        voters=first.record.roster,
        parent=first.record.blobs,
        memory=update("ada", 2).digest,
    )
    assert disk.load().current == expected


def test_an_update_of_the_open_round_comes_back_and_an_older_one_does_not() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    disk = in_run(chain)
    disk.save(SaveUpdate(chain.run, 1, chain.run, update("ada", 1)))
    assert known(disk.load().current).update is None
    disk.unflushed |= {update("ada", 1).digest, update("ada", 2).digest}
    assert known(disk.load().current).update is None
    disk.save(SaveUpdate(chain.run, 2, chain.run, update("ada", 2)))
    assert known(disk.load().current).update is None, "another parent"
    disk.save(SaveUpdate(chain.run, 2, record_digest(chain.commits[-1].record), update("ada", 2)))
    assert known(disk.load().current).update == update("ada", 2)
    disk.unflushed.clear()
    assert known(disk.load().current).update is None, "a power cut took its bytes"


def test_a_collection_takes_flushed_and_unflushed_blobs_alike() -> None:
    disk = Disk(member("ada"), blobs={"model", "old model"}, unflushed={"update", "old update"})
    disk.collect(frozenset({"model", "update"}))
    assert (disk.blobs, disk.unflushed) == ({"model"}, {"update"})
    assert disk.has("model")
    assert disk.has("update")
    assert not disk.has("old update")


def test_a_promise_keeps_the_value_accepted_in_the_round_and_no_older_one() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    record = chain.commits[0].record
    disk = in_run(chain_of(*NAMES[:3]))
    disk.save(SaveAccepted(chain.run, 1, ballot(1, "ben"), record, 1))
    disk.save(SavePromise(chain.run, 1, ballot(2, "cleo"), 2))
    assert disk.load().votes[chain.run] == Vote(1, ballot(2, "cleo"), ballot(1, "ben"), record)
    disk.save(SavePromise(chain.run, 2, ballot(1, "ben"), 2))
    assert disk.load().votes[chain.run] == Vote(2, ballot(1, "ben"), None, None)


def test_the_vote_of_a_round_that_is_committed_does_not_come_back() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    disk = in_run(chain)
    disk.save(SaveAccepted(chain.run, 1, ballot(1, "ben"), chain.commits[0].record, 1))
    assert disk.load().votes == {}


def test_a_backup_does_not_see_what_comes_after_it() -> None:
    chain = chain_of(*NAMES[:3])
    disk = in_run(chain)
    backup = disk.backup()
    before = backup.load()
    disk.save(SaveCommit(chain.run, chain.commit(), 1.0))
    disk.save(SavePromise(chain.run, 2, ballot(1, "ben"), 2))
    disk.blobs.add("model")
    disk.save_claim(member("ben"), CLAIM)
    assert backup.load() == before
    assert backup.blobs == set()
    assert backup.seen(member("ben")) is None


def test_a_new_journal_keeps_the_records_and_forgets_the_votes() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    disk = in_run(chain)
    disk.incarnation = 7
    disk.save(SavePromise(chain.run, 2, ballot(1, "ben"), 2))
    disk.renew("ab" * 16)
    assert disk.member == Member(member("ada").node, "ab" * 16)
    assert disk.incarnation == 0
    assert disk.load().votes == {}
    assert known(disk.load().current).last == chain.commits[-1]


def test_the_last_start_of_another_journal_is_remembered() -> None:
    disk = Disk(member("ada"))
    disk.save_claim(member("ben"), CLAIM)
    assert disk.seen(member("ben")) == JournalEvidence(CLAIM)
    assert disk.seen(member("cleo")) is None


def test_the_newest_vote_of_another_journal_is_remembered_also_from_a_commit() -> None:
    chain = chain_of(*NAMES[:3])
    disk = in_run(chain)
    disk.save_claim(member("ben"), CLAIM)
    promise = CastVote(chain.run, 1, ballot(2, "ada"), "", signed("ben", chain.run, 1, ballot(2, "ada")))
    disk.save(SaveSeen((promise,), at_once=False))
    assert disk.seen(member("ben")) == JournalEvidence(CLAIM, promise)
    commit = resigned(chain.commit(), "ada", "ben", votes=5)
    disk.save(SaveCommit(chain.run, commit, 1.0))
    assert known(known(disk.seen(member("ben"))).cast).vote == commit.acceptors[1]
    assert disk.seen(member("ada")) is None


def test_a_journal_that_was_refused_stays_so_until_it_is_a_new_one() -> None:
    disk = Disk(member("ada"))
    disk.save(SaveRefused("a copy"))
    assert disk.backup().refused == disk.refused == "a copy"
    disk.renew("ab" * 16)
    assert disk.refused == ""


def test_every_vote_is_counted_and_a_new_journal_begins_anew() -> None:
    chain = chain_of(*NAMES[:3])
    disk = in_run(chain)
    disk.save(SavePromise(chain.run, 1, ballot(1, "ben"), 1))
    disk.save(SaveAccepted(chain.run, 1, ballot(1, "ben"), chain.commit().record, 2))
    assert disk.load().votes_cast == 2
    disk.renew("ab" * 16)
    assert disk.load().votes_cast == 0


def test_a_closed_run_is_not_taken_up_again_but_its_votes_stay() -> None:
    chain = chain_of(*NAMES[:3])
    disk = in_run(chain)
    disk.save(SavePromise(chain.run, 1, ballot(1, "ben"), 2))
    disk.save(SaveClosed(chain.run))
    saved = disk.load()
    assert saved.current is None
    assert saved.closed == {chain.run}
    assert chain.run in saved.votes


def test_records_come_a_few_at_a_time_with_record_0_where_it_is_asked_for() -> None:
    chain = chain_of(*NAMES[:3], rounds=RECORDS_AT_ONCE + 2)
    disk = in_run(chain)
    first = known(disk.records(chain.run, -1))
    assert (first.genesis, len(first.commits)) == (chain.genesis, RECORDS_AT_ONCE)
    rest = known(disk.records(chain.run, RECORDS_AT_ONCE))
    assert (rest.genesis, rest.commits) == (None, tuple(chain.commits[RECORDS_AT_ONCE:]))


def test_an_unknown_run_has_no_records() -> None:
    assert Disk(member("ada")).records(chain_of(*NAMES[:3]).run, -1) is None


def test_an_update_comes_back_only_with_its_control() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    disk, mine = in_run(chain), controlled(update("ada", 2))
    disk.save(SaveUpdate(chain.run, 2, record_digest(chain.commits[-1].record), mine))
    disk.unflushed.add(mine.digest)
    assert not disk.has_update(mine)
    assert known(disk.load().current).update is None
    disk.save(SaveUpdate(chain.run, 2, record_digest(chain.commits[-1].record), mine))
    disk.unflushed.add(mine.blobs.control)
    assert known(disk.load().current).update == mine


def test_the_memory_of_a_continued_run_comes_from_before_its_origin() -> None:
    chain = chain_of(*NAMES[:3], rounds=2)
    disk = in_run(chain)
    origin = Origin(chain.run, 1, record_digest(chain.commits[0].record), 1)
    genesis = msgspec.structs.replace(chain.genesis, nonce="12" * 16, continues=(origin,))
    run = record_digest(genesis)
    disk.save(SaveGenesis(run, genesis))
    assert disk.last_update(run) == update("ada", 1).digest
    assert disk.last_update(chain.run) == update("ada", 2).digest
