"""The checker over data directories finds what it must, on disks made by the product's own journal and store."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from p2pfl.core.effects import SaveAccepted, SaveClosed, SaveCommit, SaveGenesis, SaveSeen
from p2pfl.errors import DataDirectoryError, UserError
from p2pfl.messages import (
    Ballot,
    Commit,
    Evaluation,
    Genesis,
    Member,
    MemberEvaluation,
    Origin,
    Record,
    RecordBlobs,
    record_digest,
)
from p2pfl.proofs import CastVote, sign_claim
from p2pfl.schema import file_bytes, header
from p2pfl.store.blobs import BlobStore
from p2pfl.store.database import open_writable
from p2pfl.store.directory import DataDirectory
from p2pfl.store.journal import Journal
from p2pfl.store.verify import LOOKS, Findings, verify
from tests.support.core import ballot
from tests.support.keys import signer
from tests.support.records import (
    SCHEMA,
    STATEFUL,
    Chain,
    acceptances,
    digest,
    evaluations,
    genesis,
    node,
    roster,
)

NAMES = ("ada", "ben", "cleo")


def model(number: int) -> bytes:
    """A file of the schema whose bytes depend on *number*."""
    start = header(SCHEMA)
    return start + bytes([number]) * (file_bytes(SCHEMA) - len(start))


def model_digest(number: int) -> str:
    return blake3(model(number)).hexdigest()


class Federation:
    """Data directories of ada, ben and cleo in one run, each with everything a node would hold."""

    def __init__(self, folder: Path, start: Genesis | None = None) -> None:
        self.folder = folder
        self.votes_cast = 0
        self.members: dict[str, Member] = {}
        for name in NAMES:
            with Journal.open(self._place(name).journal_path, node(name)) as journal:
                self.members[name] = journal.member
        entries = tuple(
            msgspec.structs.replace(entry, journal=self.members[entry.name].journal)
            for entry in roster(*NAMES)
        )
        blobs = RecordBlobs(model_digest(0))
        begun = msgspec.structs.replace(start or genesis(), blobs=blobs, roster=entries)
        self.chain = Chain(begun)
        self.save(NAMES, SaveGenesis(self.chain.run, begun))

    def _place(self, name: str) -> DataDirectory:
        with DataDirectory(self.folder / name) as place:
            return place

    def save(self, names: Sequence[str], *effects: object) -> None:
        for name in names:
            with Journal.open(self._place(name).journal_path, node(name)) as journal:
                journal.save_all(effects)  # type: ignore[arg-type]

    def commit(self, number: int, names: Sequence[str] = NAMES, **options: object) -> Commit:
        """Commit model *number* with the acceptance of all; *names* hear of it and hold the model."""
        commit = self.chain.commit(model=model_digest(number), **options)  # type: ignore[arg-type]
        commit = self.accepted(commit, *NAMES)
        self.chain.commits[-1] = commit
        self.save(names, SaveCommit(self.chain.run, commit, 1.0))
        for name in names:
            self.put(name, number)
        return commit

    def accept(self, name: str, number: int, at: Ballot, **options: object) -> Record:
        """Let *name* accept what would follow, with model *number*, in ballot *at*."""
        record = self.chain.commit(model=model_digest(number), **options).record  # type: ignore[arg-type]
        self.chain.commits.pop()
        self.save([name], SaveAccepted(self.chain.run, record.round, at, record, self.count()))
        return record

    def accepted(self, commit: Commit, *names: str) -> Commit:
        """*commit* with the acceptances of *names*."""
        voters = [entry for entry in self.chain.genesis.roster if entry.name in names]
        return msgspec.structs.replace(commit, acceptors=acceptances(commit.record, voters, commit.ballot))

    def count(self) -> int:
        """Return the number of a vote that is higher than all before."""
        self.votes_cast += 1
        return self.votes_cast

    def put(self, name: str, number: int) -> None:
        store = BlobStore(self._place(name).blobs_path)
        path = store.new_path()
        path.write_bytes(model(number))
        store.adopt(path, model_digest(number))

    def blob(self, name: str, number: int) -> Path:
        return self.folder / name / "blobs" / model_digest(number)

    def change(self, name: str, statement: str, *values: object) -> None:
        """Do to a journal what no node does."""
        with (
            contextlib.closing(open_writable(self.folder / name / "journal.sqlite")) as connection,
            connection,
        ):
            connection.execute(statement, values)

    def verify(self, *names: str) -> Findings:
        return verify([self.folder / name for name in names or NAMES])


@pytest.fixture
def lab(tmp_path: Path) -> Federation:
    """Three committed rounds, the first of which did best."""
    made = Federation(tmp_path)
    made.commit(1)
    made.commit(2, evaluated=evaluations((9, 10)))
    made.commit(3, evaluated=evaluations((5, 10)))
    return made


def texts(findings: Findings) -> list[str]:
    return [str(fault) for fault in findings.faults]


def test_sound_directories_are_clean_and_all_of_them_is_read(lab: Federation) -> None:
    findings = lab.verify()
    assert findings.faults == ()
    assert findings.is_clean
    assert (findings.directories, findings.runs, findings.records, findings.blobs) == (3, 1, 9, 9)


def test_a_node_that_is_behind_and_one_that_only_heard_of_rounds_are_clean(lab: Federation) -> None:
    lab.commit(4, ("ada", "ben"))
    commit = lab.commit(5, ("ada",))
    heard = lab.accepted(commit, "ada", "cleo")
    lab.save(["ben"], SaveCommit(lab.chain.run, heard, 1.0))
    assert lab.verify().faults == ()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_model_that_must_be_here_and_is_not_is_found(lab: Federation, number: int) -> None:
    lab.blob("ben", number).unlink()
    (fault,) = lab.verify().faults
    assert (fault.directory, fault.what) == (lab.folder / "ben", "blob")
    assert f"{lab.blob('ben', number)}, is not here" in fault.text
    assert str(fault).endswith("it pulls the model again.")


def test_a_model_with_other_bytes_is_found(lab: Federation) -> None:
    lab.blob("ada", 3).write_bytes(model(4))
    (text,) = texts(lab.verify())
    assert "the model of round 3" in text
    assert "has other bytes than it is named by" in text


def test_a_model_that_may_be_gone_is_not_missed(lab: Federation) -> None:
    lab.commit(4)
    lab.blob("ada", 2).unlink()
    assert lab.verify().faults == ()


def test_a_model_accepted_in_the_open_round_must_be_here(lab: Federation) -> None:
    lab.accept("cleo", 4, ballot(2, "cleo"), proposer="cleo")
    (text,) = texts(lab.verify())
    assert "the model it accepted in the open round 4" in text
    lab.put("cleo", 4)
    assert lab.verify().faults == ()


def test_what_a_running_node_has_deleted_meanwhile_is_no_fault(
    lab: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    intact = BlobStore.is_intact

    def commit_meanwhile(self: BlobStore, blob: str) -> bool:
        looks.append(blob)
        if len(looks) == 1:
            for number in (4, 5):
                lab.commit(number)
            lab.blob("ada", 2).unlink()
            lab.blob("ada", 3).unlink()
        return intact(self, blob)

    monkeypatch.setattr("p2pfl.store.blobs.BlobReader.is_intact", commit_meanwhile)
    assert lab.verify("ada").faults == ()
    assert len(looks) <= LOOKS * 3


def test_the_models_of_a_run_that_was_given_up_are_not_asked_for(lab: Federation) -> None:
    lab.save(["ada"], SaveClosed(lab.chain.run))
    lab.blob("ada", 3).unlink()
    assert lab.verify("ada").faults == ()


def test_a_broken_chain_is_the_journals_fault(lab: Federation) -> None:
    lab.change("ben", "UPDATE commits SET record = ? WHERE round = 2", digest("other"))
    (fault,) = lab.verify().faults
    assert fault.what == "journal"
    assert fault.text.startswith(f"run {lab.chain.run[:7]}: the record of round 2 has digest")


def test_a_record_of_other_metrics_than_the_runs_is_a_fault_of_each_journal_that_has_it(
    lab: Federation,
) -> None:
    dice = MemberEvaluation(node("ada"), Evaluation(9, {"dice": 4.0}))
    lab.commit(4, ("ada", "ben"), evaluated=(dice,))
    faults = lab.verify().faults
    assert [(fault.directory.name, fault.what) for fault in faults] == [
        ("ada", "journal"),
        ("ben", "journal"),
    ]
    assert "an evaluation has the metrics dice, not accuracy, loss" in faults[0].text


def test_a_missing_round_is_found(lab: Federation) -> None:
    lab.change("ben", "DELETE FROM commits WHERE round = 2")
    assert "rounds between them are missing" in texts(lab.verify("ben"))[0]


def test_a_journal_that_cannot_be_read_is_a_fault_and_the_others_are_checked(lab: Federation) -> None:
    lab.change("ada", "UPDATE commits SET entry = ? WHERE round = 2", b"\xc1")
    lab.blob("ben", 3).unlink()
    faults = lab.verify().faults
    assert [(fault.directory.name, fault.what) for fault in faults] == [("ada", "journal"), ("ben", "blob")]


def test_a_second_decision_the_node_itself_has_seen_is_a_fault(lab: Federation) -> None:
    other = msgspec.structs.replace(
        lab.chain.commits[2], record=msgspec.structs.replace(lab.chain.commits[2].record, note="other")
    )
    lab.save(["cleo"], SaveCommit(lab.chain.run, other, 1.0))
    (fault,) = lab.verify("cleo").faults
    assert fault.what == "agreement"
    assert "two records are committed around round 3" in fault.text


# --- several ------------------------------------------------------------------------------------------------


def test_two_records_for_one_round_are_found_once(lab: Federation) -> None:
    lab.commit(4, ("ada",), note="one way")
    lab.commit(5, ("ada",))
    del lab.chain.commits[3:]
    lab.commit(6, ("ben",), note="the other way")
    lab.commit(7, ("ben",))
    (fault,) = lab.verify().faults
    assert (fault.directory, fault.what) == (lab.folder / "ben", "agreement")
    assert "round 4 is committed with another record than elsewhere" in fault.text
    assert str(lab.folder / "ada") in fault.text


def test_an_acceptance_that_contradicts_a_commit_elsewhere_is_found(lab: Federation) -> None:
    lab.accept("cleo", 9, ballot(3, "cleo"))
    lab.put("cleo", 9)
    lab.commit(4, ("ada", "ben"))
    faults = lab.verify().faults
    assert {fault.what for fault in faults} == {"agreement"}
    assert "was accepted in the same or a higher ballot" in faults[0].text


def test_a_ballot_with_two_values_is_found(lab: Federation) -> None:
    for name, number in (("ada", 8), ("ben", 9)):
        lab.accept(name, number, ballot(2, "cleo"))
        lab.put(name, number)
    (fault,) = lab.verify().faults
    assert "attempt 2 of round 4 was accepted with two records" in fault.text


def test_a_copied_directory_is_found(lab: Federation, tmp_path: Path) -> None:
    shutil.copytree(lab.folder / "ada", tmp_path / "copy")
    (fault,) = verify([lab.folder / "ada", tmp_path / "copy"]).faults
    assert (fault.directory, fault.what) == (tmp_path / "copy", "copy")
    assert str(fault).endswith("start the one that is not the original with --new-journal.")


def test_a_journal_older_than_others_have_seen_it_is_found(lab: Federation) -> None:
    with Journal.open(lab.folder / "ben" / "journal.sqlite", node("ben")) as journal:
        journal.save_claim(lab.members["ada"], sign_claim(signer("ada"), lab.members["ada"], 99, "0" * 32, 0))
    (fault,) = lab.verify("ada", "ben").faults
    assert (fault.directory, fault.what) == (lab.folder / "ada", "copy")
    assert "others have seen start 99" in fault.text


def test_a_journal_that_has_forgotten_votes_others_have_seen_is_found(lab: Federation) -> None:
    made = lab.commit(4, ("ada", "ben"))
    entry = lab.chain.genesis.roster[0]
    again = acceptances(made.record, [entry], made.ballot, votes=6)
    digest_ = record_digest(made.record)
    cast = CastVote(lab.chain.run, 4, made.ballot, digest_, again[0])
    lab.save(["ben"], SaveSeen((cast,), at_once=False))
    lab.change("ada", "UPDATE self SET votes = 6")
    assert lab.verify("ada", "ben").faults == ()
    lab.change("ada", "UPDATE self SET votes = 4")
    (fault,) = lab.verify("ada", "ben").faults
    assert (fault.directory, fault.what) == (lab.folder / "ada", "copy")
    assert "knows 4 votes of its node, but others have seen 6" in fault.text


def test_a_run_that_continues_another_from_a_record_that_was_not_committed_is_found(lab: Federation) -> None:
    for record, is_clean in ((record_digest(lab.chain.commits[2].record), True), (digest("false"), False)):
        origin = Origin(lab.chain.run, 3, record, 3)
        begun = msgspec.structs.replace(lab.chain.genesis, nonce=record[:32], continues=(origin,))
        lab.save(["ben"], SaveGenesis(record_digest(begun), begun))
        assert lab.verify("ada", "ben").is_clean == is_clean


def test_a_directory_given_twice_is_the_users_mistake(lab: Federation) -> None:
    with pytest.raises(UserError, match="given twice"):
        lab.verify("ada", "ada")


def test_what_is_no_data_directory_is_said(lab: Federation, tmp_path: Path) -> None:
    with pytest.raises(DataDirectoryError, match="there is no data directory"):
        verify([tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataDirectoryError, match="there is no journal"):
        verify([tmp_path / "empty"])


def test_a_state_that_was_accepted_must_be_here_as_its_model(tmp_path: Path) -> None:
    lab = Federation(tmp_path, msgspec.structs.replace(genesis(), spec=STATEFUL))
    for number in (1, 2):
        lab.commit(number, state=model_digest(100 + number))
        for name in NAMES:
            lab.put(name, 100 + number)
    assert lab.verify().is_clean
    assert lab.verify().blobs == 3 * 4
    lab.blob("ben", 102).unlink()
    (text,) = texts(lab.verify())
    assert "the state of round 2" in text
    lab.put("ben", 102)
    lab.blob("ben", 101).write_bytes(b"other bytes")
    (text,) = texts(lab.verify())
    assert "the state of round 1" in text
