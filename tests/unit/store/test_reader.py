from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.cards import REGRESSION, Agreement, Measures
from p2pfl.core.effects import SaveClosed, SaveCommit, SaveGenesis, SaveReport
from p2pfl.core.stopping import MetricHistory
from p2pfl.errors import DataDirectoryError
from p2pfl.events import ClassScore
from p2pfl.messages import Commit, Evaluation, LeftOut, MemberEvaluation, Origin, Records, record_digest
from p2pfl.spec import with_options
from p2pfl.store.journal import Journal
from p2pfl.store.reader import LATEST_ROUNDS, PAGE_ROUNDS, JournalReader
from tests.support.records import SPEC, Chain, digest, evaluation, evaluations, genesis, node, roster, update


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def book(tmp_path: Path, chain: Chain) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.sqlite", node("ada")) as opened:
        opened.save(SaveGenesis(chain.run, chain.genesis))
        yield opened


def commit(book: Journal, chain: Chain, **options: object) -> None:
    book.save(SaveCommit(chain.run, chain.commit(**options), 2.5))  # type: ignore[arg-type]


def report(book: Journal, chain: Chain, round_: int, name: str, correct: int, total: int) -> None:
    made = evaluation(correct, total, 0.5 * total)
    book.save(SaveReport(chain.run, round_, node(name), made))


# --- records for peers --------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(after=st.integers(-1, 21), count=st.integers(0, 20), spare=st.integers(-12, 12))
def test_records_are_the_next_ones_in_order_and_as_many_as_fit(
    long_book: tuple[Journal, Chain], after: int, count: int, spare: int
) -> None:
    book, chain = long_book
    start = chain.genesis if after == -1 else None
    wanted = tuple(chain.commits[max(after, 0) :])

    def size(commits: tuple[Commit, ...]) -> int:
        return len(msgspec.msgpack.encode(Records(run=chain.run, genesis=start, commits=commits)))

    room = size(wanted[:count]) + spare
    found = book.records(chain.run, after, room)
    assert found.genesis == start
    assert found.commits == wanted[: len(found.commits)]
    assert size(found.commits) <= room or not found.commits
    if len(found.commits) < len(wanted):
        # One more does not fit, but for the bytes held back for a longer array header.
        assert size(wanted[: len(found.commits) + 1]) > room - 4


@pytest.fixture(scope="module")
def long_book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Journal, Chain]]:
    chain = Chain()
    with Journal.open(tmp_path_factory.mktemp("long") / "journal.sqlite", node("ada")) as book:
        book.save(SaveGenesis(chain.run, chain.genesis))
        book.save_all([SaveCommit(chain.run, chain.commit(), 1.0) for _ in range(20)])
        yield book, chain


def test_records_of_an_unknown_run_are_none(book: Journal) -> None:
    assert book.records(digest("unknown"), -1, 10_000) == Records(
        run=digest("unknown"), genesis=None, commits=()
    )


# --- history ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [1, 2, 19, 20, 21, 1000])
def test_the_last_rounds_alone_are_told_like_among_all(long_book: tuple[Journal, Chain], last: int) -> None:
    book, chain = long_book
    assert list(book.rounds(chain.run, last)) == list(book.rounds(chain.run))[-last:]


def test_the_last_rounds_name_who_voted_in_them(book: Journal, chain: Chain) -> None:
    commit(book, chain, next_roster=roster("ada", "ben", "dan"))
    commit(book, chain, proposer="dan")
    [only] = book.rounds(chain.run, 1)
    assert only.members == ("ada", "ben", "dan")
    assert only.aggregator == "dan"


def test_a_round_is_told_with_names_parent_and_the_roster_that_voted(book: Journal, chain: Chain) -> None:
    left_out = (LeftOut(node=node("cleo"), reason="silent"),)
    commit(
        book,
        chain,
        proposer="ben",
        attempt=2,
        left_out=left_out,
        next_roster=roster("ada", "ben", "dan"),
        note="dan joins",
    )
    commit(book, chain, proposer="dan")
    first, second = book.rounds(chain.run)
    assert (first.attempt, first.aggregator) == (2, "ben")
    assert first.members == ("ada", "ben", "cleo")
    assert [(update.name, update.examples) for update in first.updates] == [
        ("ada", 100),
        ("ben", 100),
        ("cleo", 100),
    ]
    assert first.left_out == (("cleo", "silent"),)
    assert first.parent == chain.genesis.model
    assert first.record == record_digest(chain.commits[0].record)
    assert (first.seconds, first.note, first.then) == (2.5, "dan joins", "go")
    assert second.aggregator == "dan"
    assert second.members == ("ada", "ben", "dan")
    assert second.parent == first.digest


def test_accuracy_is_what_the_next_record_committed_whatever_was_reported(
    book: Journal, chain: Chain
) -> None:
    commit(book, chain)
    report(book, chain, 1, "ada", 100, 100)
    (before,) = book.rounds(chain.run)
    commit(book, chain, evaluated=evaluations((30, 40), (50, 60), loss=0.25))
    after = next(book.rounds(chain.run))
    assert (before.accuracy, before.loss, before.examples) == (1.0, 0.5, 100)
    assert (after.accuracy, after.loss, after.examples) == (0.8, 0.25, 100)


def test_without_committed_evaluations_the_reports_count(book: Journal, chain: Chain) -> None:
    commit(book, chain)
    report(book, chain, 1, "ada", 1, 10)
    report(book, chain, 1, "ada", 6, 10)
    report(book, chain, 1, "ben", 10, 10)
    commit(book, chain)
    first, second = book.rounds(chain.run)
    assert first.accuracy == 0.8
    assert (second.accuracy, second.loss, second.examples) == (None, None, 0)


def test_the_closing_evaluation_is_a_row_of_its_own_kind_and_scores_the_last_round(
    book: Journal, chain: Chain
) -> None:
    commit(book, chain)
    commit(book, chain, kind="evaluate", evaluated=evaluations((9, 10)), then="end")
    last, closing = book.rounds(chain.run)
    assert (last.kind, last.accuracy) == ("train", 0.9)
    assert (closing.kind, closing.digest, closing.updates) == ("evaluate", last.digest, ())


def test_a_run_longer_than_a_page_is_told_whole_and_in_order(book: Journal, chain: Chain) -> None:
    count = 2 * PAGE_ROUNDS + 1
    book.save_all(
        [SaveCommit(chain.run, chain.commit(evaluated=evaluations((1, 4))), 1.0) for _ in range(count)]
    )
    rows = list(book.rounds(chain.run))
    assert [row.round for row in rows] == list(range(1, count + 1))
    assert [row.accuracy for row in rows] == [0.25] * (count - 1) + [None]


def test_runs_are_told_from_the_oldest_with_where_they_stand(book: Journal, chain: Chain) -> None:
    commit(book, chain)
    commit(book, chain, kind="evaluate", then="end")
    later = Chain(genesis(nonce="07" * 16))
    book.save_all([SaveClosed(chain.run), SaveGenesis(later.run, later.genesis)])
    first, second = book.runs()
    assert (first.run, first.round, first.trained, first.ended, first.closed) == (chain.run, 2, 1, True, True)
    assert (second.run, second.round, second.trained, second.ended, second.closed) == (
        later.run,
        0,
        0,
        False,
        False,
    )
    assert (second.spec, second.rounds) == (SPEC, 10)


def test_an_unknown_run_has_no_rounds_and_no_models(book: Journal) -> None:
    unknown = digest("unknown")
    assert list(book.rounds(unknown)) == []
    assert book.best(unknown) is None
    assert book.last_models(unknown) == ()
    assert book.last_commit(unknown) is None


# --- models to keep -----------------------------------------------------------------------------------------


def test_the_best_model_has_the_highest_committed_accuracy(book: Journal, chain: Chain) -> None:
    for counts in ((1, 10), (5, 10), (9, 10), (9, 10), (7, 10)):
        commit(book, chain, evaluated=evaluations(counts))
    # Round n's accuracy came with round n + 1: .5, .9, .9, .7, and none yet for the last.
    report(book, chain, 5, "ada", 10, 10)
    assert book.best(chain.run) == digest(("model", 3))


def test_while_no_accuracy_is_committed_the_best_model_is_chosen_by_reports(
    book: Journal, chain: Chain
) -> None:
    assert book.best(chain.run) is None
    for _ in range(3):
        commit(book, chain)
    assert book.best(chain.run) is None
    for round_, correct in ((1, 4), (2, 8), (3, 6)):
        report(book, chain, round_, "ada", correct, 10)
    assert book.best(chain.run) == digest(("model", 2))


def test_last_models_are_different_ones_and_count_the_initial_model(book: Journal, chain: Chain) -> None:
    told = [book.last_models(chain.run)]
    for options in ({}, {"kind": "evaluate"}, {}):
        commit(book, chain, **options)
        told.append(book.last_models(chain.run, 2))
    initial, first, third = chain.genesis.model, digest(("model", 1)), digest(("model", 3))
    assert told == [(initial,), (first, initial), (first, initial), (third, first)]


# --- reading while a node writes ----------------------------------------------------------------------------


def test_a_reader_sees_what_the_node_saves_and_raises_no_boot_count(book: Journal, chain: Chain) -> None:
    with JournalReader.read(book.path) as reader:
        assert list(reader.rounds(chain.run)) == []
        commit(book, chain)
        assert [row.round for row in reader.rounds(chain.run)] == [1]
    member, path = book.member, book.path
    book.close()
    with JournalReader.read(path) as reader:
        assert [row.run for row in reader.runs()] == [chain.run]
    with Journal.open(path, member.node) as again:
        assert again.incarnation == 2


def test_a_reader_cannot_write(book: Journal) -> None:
    with (
        JournalReader.read(book.path) as reader,
        pytest.raises(DataDirectoryError, match="readonly"),
    ):
        reader._all("DELETE FROM runs")


def test_reading_where_no_journal_is_makes_none(tmp_path: Path) -> None:
    with pytest.raises(DataDirectoryError, match="there is no journal at"):
        JournalReader.read(tmp_path / "journal.sqlite")
    assert list(tmp_path.iterdir()) == []


# --- what people read ---------------------------------------------------------------------------------------


def test_rounds_of_training_are_numbered_over_a_closing_evaluation(book: Journal, chain: Chain) -> None:
    commit(book, chain)
    commit(book, chain, kind="evaluate", then="end")
    commit(book, chain)
    assert [(row.kind, row.round, row.training_round) for row in book.rounds(chain.run)] == [
        ("train", 1, 1),
        ("evaluate", 2, 1),
        ("train", 3, 2),
    ]


def test_a_row_says_whether_its_accuracy_is_committed(book: Journal, chain: Chain) -> None:
    commit(book, chain)
    report(book, chain, 1, "ada", 9, 10)
    assert [row.committed for row in book.rounds(chain.run)] == [False]
    commit(book, chain, evaluated=evaluations((9, 10)))
    assert [row.committed for row in book.rounds(chain.run)] == [True, False]


@pytest.mark.parametrize("last", [None, 1, 2])
def test_a_joiners_first_evaluation_has_its_name(book: Journal, chain: Chain, last: int | None) -> None:
    commit(book, chain, next_roster=roster("ada", "dan"))
    entry = evaluations((1, 10))[0]
    commit(
        book,
        chain,
        proposer="dan",
        evaluated=(msgspec.structs.replace(entry, node=node("dan")),),
        next_roster=roster("ada", "dan"),
    )
    report(book, chain, 2, "dan", 9, 10)
    rows = {row.round: row for row in book.rounds(chain.run, last)}
    assert [score.name for score in rows[2].scores] == ["dan"]
    if 1 in rows:
        assert [score.name for score in rows[1].scores] == ["dan"]


def test_a_node_knows_after_a_restart_what_its_stopping_rule_counts(tmp_path: Path) -> None:
    rule = with_options(SPEC, patience=2)
    for spec, known in ((rule, MetricHistory(0.9, 2, 1)), (SPEC, MetricHistory())):
        chain = Chain(msgspec.structs.replace(genesis(), spec=spec))
        with Journal.open(tmp_path / f"{spec.stopping.patience}.sqlite", node("ada")) as book:
            book.save(SaveGenesis(chain.run, chain.genesis))
            for right in (0, 8, 9, 9):
                commit(book, chain, evaluated=evaluations(*((right, 10),) * 3) if right else ())
            assert book.history(chain.run) == known
            saved = book.load().current
            assert saved is not None
            assert saved.history == known
            assert book.history(digest("unknown run")) == MetricHistory()


REGRESSION_SUMS = {"loss": 1.0, "mae": 3.0, "mse": 4.0, "target": 0.0, "target_square": 10.0}


def test_the_best_model_and_the_rows_of_a_regression_are_by_its_r2(tmp_path: Path) -> None:
    agreement = Agreement((), 1000, REGRESSION)
    chain = Chain(msgspec.structs.replace(genesis(), agreement=agreement))
    with Journal.open(tmp_path / "journal.sqlite", node("ada")) as book:
        book.save(SaveGenesis(chain.run, chain.genesis))
        commit(book, chain)
        for loss in (4.0, 1.0, 2.0):
            one = MemberEvaluation(node("ada"), Evaluation(10, {**REGRESSION_SUMS, "loss": loss}))
            commit(book, chain, evaluated=(one,))
        rows = list(book.rounds(chain.run))
        assert [row.primary_value for row in rows] == [
            pytest.approx(0.6),
            pytest.approx(0.9),
            pytest.approx(0.8),
            None,
        ]
        assert {(row.primary, row.direction, row.accuracy, row.classes) for row in rows} == {
            ("r2", "max", None, ())
        }
        assert set(rows[0].scores[0].metrics) == {"loss", "mae", "mse", "r2"}
        assert book.best(chain.run) == rows[1].digest


def test_where_less_is_better_the_best_model_has_the_smallest_value(tmp_path: Path) -> None:
    agreement = Agreement((), 1000, Measures("mine", ("cost",), "cost", "min"))
    chain = Chain(msgspec.structs.replace(genesis(), agreement=agreement))
    with Journal.open(tmp_path / "journal.sqlite", node("ada")) as book:
        book.save(SaveGenesis(chain.run, chain.genesis))
        commit(book, chain)
        for cost in (4.0, 1.0, 2.0):
            commit(book, chain, evaluated=(MemberEvaluation(node("ada"), Evaluation(10, {"cost": cost})),))
        assert book.best(chain.run) == digest(("model", 2))


def test_the_counts_of_classes_are_in_the_rows_that_ask_for_them(book: Journal, chain: Chain) -> None:
    commit(book, chain)
    commit(book, chain, evaluated=evaluations((8, 10), (9, 10)))
    row = next(book.rounds(chain.run, counts_classes=True))
    assert row.classes[0] == ClassScore("0", 17, 20, 20)
    assert len(row.classes) == 10
    assert next(book.rounds(chain.run)).classes == ()


def test_the_last_update_of_a_device_is_found_however_many_records_came_after(tmp_path: Path) -> None:
    chain = Chain()
    with Journal.open(tmp_path / "journal.sqlite", node("ada")) as book:
        book.save(SaveGenesis(chain.run, chain.genesis))
        assert book.last_update_of(chain.run, node("ada")) == ""
        for number in range(1, 2 * LATEST_ROUNDS + 3):
            commit = chain.commit()
            if number > 1:
                others = tuple(one for one in commit.record.updates if one.node != node("ada"))
                record = msgspec.structs.replace(commit.record, updates=others)
                chain.commits[-1] = commit = msgspec.structs.replace(commit, record=record)
            book.save(SaveCommit(chain.run, commit, 1.0))
        assert book.last_update_of(chain.run, node("ada")) == update("ada", 1).digest
        assert book.last_update_of(chain.run, node("ben")) == update("ben", number).digest
        assert book.last_update_of(chain.run, node("eve")) == ""
        current = book.load().current
        assert current is not None
        assert current.memory == update("ada", 1).digest


def test_the_last_update_before_the_origin_of_a_continued_run_counts_there_too(tmp_path: Path) -> None:
    old = Chain()
    first, second = old.commit(), old.commit()
    origin = Origin(old.run, 1, record_digest(first.record), 1)
    new = msgspec.structs.replace(old.genesis, nonce="12" * 16, continues=(origin,))
    with Journal.open(tmp_path / "journal.sqlite", node("ada")) as book:
        book.save(SaveGenesis(old.run, old.genesis))
        for commit in (first, second):
            book.save(SaveCommit(old.run, commit, 1.0))
        book.save(SaveGenesis(record_digest(new), new))
        assert book.last_update_of(record_digest(new), node("ada")) == update("ada", 1).digest
