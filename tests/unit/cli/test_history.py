from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from blake3 import blake3
from safetensors.numpy import load_file, save_file
from typer import Typer
from typer.testing import CliRunner, Result

from p2pfl.cli.history import export, history, state_of
from p2pfl.core.effects import SaveClosed, SaveCommit, SaveGenesis, SaveReport
from p2pfl.errors import DataDirectoryError, UserError
from p2pfl.events import RoundRow
from p2pfl.learning.exports.judging import Converted, ConvertModel
from p2pfl.learning.exports.model_info import read_info
from p2pfl.messages import LeftOut
from p2pfl.schema import file_bytes, header
from p2pfl.spec import RunSpec, with_options
from p2pfl.store.blobs import BlobStore
from p2pfl.store.directory import DataDirectory
from p2pfl.store.journal import Journal
from p2pfl.store.reader import RunRow
from tests.support.recordings import finished, rows_of
from tests.support.records import AGREEMENT, SCHEMA, SPEC, Chain, evaluation, evaluations, genesis, node

app = Typer(rich_markup_mode=None)
app.command()(history)
app.command()(export)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words, env={"COLUMNS": "80", "TERM": "dumb"})


def model(number: int) -> bytes:
    """A file of the schema whose bytes depend on *number*."""
    start = header(SCHEMA)
    return start + bytes([number]) * (file_bytes(SCHEMA) - len(start))


def model_digest(number: int) -> str:
    return blake3(model(number)).hexdigest()


@pytest.fixture
def chain() -> Chain:
    """Three training rounds of which the second did best, and the closing evaluation."""
    chain = Chain(genesis(model=model_digest(0)))
    chain.commit(model=model_digest(1), proposer="ben")
    chain.commit(model=model_digest(2), proposer="cleo", attempt=3, evaluated=evaluations((5, 10), (6, 10)))
    left_out = (LeftOut(node=node("cleo"), reason="silent"),)
    chain.commit(
        model=model_digest(3), proposer="ada", evaluated=evaluations((9, 10), (9, 10)), left_out=left_out
    )
    chain.commit(kind="evaluate", evaluated=evaluations((8, 10), (8, 10)), then="end")
    return chain


@pytest.fixture
def data_dir(tmp_path: Path, chain: Chain) -> Path:
    """A data directory with *chain*, whose first model was collected."""
    with (
        DataDirectory(tmp_path / "node") as directory,
        Journal.open(directory.journal_path, node("ada")) as book,
    ):
        book.save(SaveGenesis(chain.run, chain.genesis))
        book.save_all([SaveCommit(chain.run, commit, 12.5) for commit in chain.commits])
        store = BlobStore(directory.blobs_path)
        for number in (2, 3):
            path = store.new_path()
            path.write_bytes(model(number))
            store.adopt(path, model_digest(number))
    return tmp_path / "node"


# --- history ------------------------------------------------------------------------------------------------


def test_json_is_one_object_a_training_round(data_dir: Path, chain: Chain) -> None:
    result = run("history", "--data-dir", str(data_dir), "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["round"] for row in rows] == [1, 2, 3]
    assert [row["accuracy"] for row in rows] == [0.55, 0.9, 0.8]
    assert {row["strategy"] for row in rows} == {"fedavg"}
    assert {
        key: rows[2][key]
        for key in ("run", "attempt", "aggregator", "digest", "parent", "members", "seconds")
    } == {
        "run": chain.run,
        "attempt": 1,
        "aggregator": "ada",
        "digest": model_digest(3),
        "parent": model_digest(2),
        "members": ["ada", "ben", "cleo"],
        "seconds": 12.5,
    }
    assert rows[2]["updates"][0] == {
        "name": "ada",
        "samples": 100,
        "steps": 7,
        "planned_steps": 7,
        "loss": 0.5,
        "seconds": 1.5,
    }
    assert rows[2]["left_out"] == [{"name": "cleo", "reason": "silent"}]
    assert rows[2]["loss"] == 1.0


def test_the_table_fits_80_columns_and_tells_every_training_round(data_dir: Path, chain: Chain) -> None:
    result = run("history", "--data-dir", str(data_dir))
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == f"Run {chain.run[:7]}: digits, model cnn, partition iid; 3 of 10 rounds, stopped."
    assert lines[2].split() == [
        "round",
        "try",
        "aggregator",
        "updates",
        "accuracy",
        "loss",
        "seconds",
        "model",
    ]
    assert result.stdout.count("3 of 3") == 3
    (second,) = [line for line in lines if "cleo" in line]
    assert second.split() == [
        "2",
        "3",
        "cleo",
        "3",
        "of",
        "3",
        "0.9000",
        "1.0000",
        "12.5",
        model_digest(2)[:7],
    ]


def test_reports_are_files_of_the_same_rounds(data_dir: Path, chain: Chain, tmp_path: Path) -> None:
    csv, jsonl, svg = (tmp_path / f"report.{ending}" for ending in ("csv", "jsonl", "svg"))
    words = ("--csv", str(csv), "--jsonl", str(jsonl), "--svg", str(svg))
    result = run("history", "--data-dir", str(data_dir), *words)
    assert [line.split(": ")[1] for line in result.stdout.splitlines()] == [
        f"3 rounds of run {chain.run[:7]}"
    ] * 3
    assert [line.split(",")[0] for line in csv.read_text().splitlines()] == ["round", "1", "2", "3"]
    assert jsonl.read_text() == run("history", "--data-dir", str(data_dir), "--json").stdout
    assert "accuracy 0.8000" in svg.read_text()


def test_a_png_file_has_the_training_rounds(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[RoundRow]] = []

    def draw(rows: list[RoundRow]) -> bytes:
        drawn.append(rows)
        return b"PNG"

    monkeypatch.setattr("p2pfl.report.figures.history_png", draw)
    result = run("history", "--data-dir", str(data_dir), "--png", str(tmp_path / "a.png"))
    assert result.stdout.startswith(f"Wrote {tmp_path / 'a.png'}: 3 rounds")
    assert (tmp_path / "a.png").read_bytes() == b"PNG"
    assert [(row.training_round, row.primary) for row in drawn[0]] == [(n, "accuracy") for n in (1, 2, 3)]


def test_a_report_is_of_the_run_that_is_asked_for(data_dir: Path, tmp_path: Path) -> None:
    result = run("history", "--data-dir", str(data_dir), "--csv", str(tmp_path / "a.csv"), "--run", "x")
    assert isinstance(result.exception, UserError)
    assert not (tmp_path / "a.csv").exists()


def test_a_report_that_cannot_be_written_says_so(data_dir: Path, tmp_path: Path) -> None:
    result = run("history", "--data-dir", str(data_dir), "--svg", str(tmp_path / "no" / "a.svg"))
    assert isinstance(result.exception, UserError)
    assert "a.svg cannot be written: No such file" in str(result.exception)


@pytest.mark.parametrize("other", ["--json", "--verify"])
def test_reports_are_instead_of_what_is_printed(data_dir: Path, tmp_path: Path, other: str) -> None:
    result = run("history", "--data-dir", str(data_dir), "--csv", str(tmp_path / "a.csv"), other)
    assert isinstance(result.exception, UserError)
    assert other in str(result.exception)
    assert not (tmp_path / "a.csv").exists()


def test_a_hostile_name_reaches_the_terminal_as_plain_text(tmp_path: Path) -> None:
    name = "[red]\x1b[2J" + "x" * 50
    with DataDirectory(tmp_path) as directory, Journal.open(directory.journal_path, node("ada")) as book:
        chain = Chain(genesis(names=("ada", "ben")))
        roster = tuple(
            type(entry)(
                node=entry.node, journal=entry.journal, name=name, slot=entry.slot, examples=entry.examples
            )
            for entry in chain.genesis.roster
        )
        chain.commit(next_roster=roster)
        chain.commit()
        book.save(SaveGenesis(chain.run, chain.genesis))
        book.save_all([SaveCommit(chain.run, commit, 1.0) for commit in chain.commits])
    result = run("history", "--data-dir", str(tmp_path))
    assert result.exception is None
    table = result.stdout
    lines = run("history", "--data-dir", str(tmp_path), "--json").stdout
    assert "\x1b" not in table + lines
    assert "[red]?[2J" in table
    assert "accuracy" in table
    assert "seconds" in table
    assert max(map(len, table.splitlines())) <= 80
    assert json.loads(lines.splitlines()[1])["aggregator"] == name


def test_history_shows_the_newest_run_and_names_others_by_their_id(data_dir: Path, chain: Chain) -> None:
    later = Chain(genesis(nonce="09" * 16))
    with DataDirectory(data_dir) as directory, Journal.open(directory.journal_path, node("ada")) as book:
        book.save_all([SaveClosed(chain.run), SaveGenesis(later.run, later.genesis)])
    newest = run("history", "--data-dir", str(data_dir)).stdout
    older = run("history", "--data-dir", str(data_dir), "--run", chain.run[:9]).stdout
    unknown = run("history", "--data-dir", str(data_dir), "--run", "xyz")
    assert newest.splitlines() == [
        f"Run {later.run[:7]}: digits, model cnn, partition iid; 0 of 10 rounds, unfinished.",
        "1 earlier run here: see --run.",
    ]
    assert older.startswith(f"Run {chain.run[:7]}: ")
    assert isinstance(unknown.exception, UserError)
    assert str(unknown.exception) == (
        f"no run here has an id that begins with 'xyz'; the runs are {chain.run[:7]}, {later.run[:7]}"
    )


def test_history_works_while_a_node_has_the_directory_and_changes_nothing(data_dir: Path) -> None:
    with DataDirectory(data_dir) as directory, Journal.open(directory.journal_path, node("ada")) as book:
        half = BlobStore(directory.blobs_path).new_path()
        half.write_text("the worker is writing this")
        result = run("history", "--data-dir", str(data_dir), "--json")
        incarnation = book.incarnation
        assert half.exists()
    assert len(result.stdout.splitlines()) == 3
    with Journal.open(data_dir / "journal.sqlite", node("ada")) as book:
        assert book.incarnation == incarnation + 1


def test_a_directory_without_node_or_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with DataDirectory(tmp_path / "fresh") as directory:
        Journal.open(directory.journal_path, node("ada")).close()
    told = []
    for name in ("none", "empty", "fresh"):
        error = run("history", "--data-dir", str(tmp_path / name)).exception
        assert isinstance(error, UserError)
        told.append(str(error))
    assert told[0].startswith(f"there is no data directory {tmp_path / 'none'};")
    assert told[1].startswith(f"there is no journal at {tmp_path / 'empty' / 'journal.sqlite'}:")
    assert told[2].startswith(f"the node with data directory {tmp_path / 'fresh'} has not been in a run yet;")


# --- export -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "number", "told"),
    [
        ((), 3, "round 3 of run {run}, accuracy 0.8000"),
        (("--best",), 2, "round 2 of run {run}, accuracy 0.9000"),
        (("--round", "2"), 2, "round 2 of run {run}, accuracy 0.9000"),
    ],
)
def test_export_writes_the_model_asked_for_and_says_which(
    tmp_path: Path, data_dir: Path, chain: Chain, options: tuple[str, ...], number: int, told: str
) -> None:
    target = tmp_path / "model.safetensors"
    result = run("export", "--data-dir", str(data_dir), str(target), *options)
    told = told.format(run=chain.run[:7])
    assert result.stdout == f"Wrote {target}: {told}, model {model_digest(number)}\n"
    assert target.read_bytes().endswith(model(number)[len(header(SCHEMA)) :])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--round", "1"), "the model of round 1 is not here (a node keeps the last two and the best); "),
        (("--round", "4"), "has no training round 4; it has 1 to 3"),
        (("--round", "1", "--best"), "--best and --round each name a model; give one of them"),
    ],
)
def test_a_model_that_cannot_be_had_is_told_with_what_can(
    tmp_path: Path, data_dir: Path, options: tuple[str, ...], told: str
) -> None:
    target = tmp_path / "model.safetensors"
    error = run("export", "--data-dir", str(data_dir), str(target), *options).exception
    assert isinstance(error, UserError)
    assert told in str(error)
    if options == ("--round", "1"):
        assert str(error).endswith("rounds whose model is here: 2, 3")
    assert not target.exists()


def test_exporting_before_the_first_round_is_told(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory, Journal.open(directory.journal_path, node("ada")) as book:
        chain = Chain()
        book.save(SaveGenesis(chain.run, chain.genesis))
    error = run("export", "--data-dir", str(tmp_path), str(tmp_path / "out")).exception
    assert isinstance(error, UserError)
    assert str(error) == f"run {chain.run[:7]} has no committed round yet; wait until its first one is"


def test_the_best_of_a_run_that_nobody_evaluated_is_told(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory, Journal.open(directory.journal_path, node("ada")) as book:
        chain = Chain()
        book.save_all([SaveGenesis(chain.run, chain.genesis), SaveCommit(chain.run, chain.commit(), 1.0)])
    error = run("export", "--data-dir", str(tmp_path), str(tmp_path / "out"), "--best").exception
    assert isinstance(error, UserError)
    assert "was evaluated yet; leave --best out" in str(error)


def test_an_exported_model_has_the_personal_tensors_of_this_device(tmp_path: Path) -> None:
    spec = with_options(SPEC, personal=("head.*",))
    chain = Chain(msgspec.structs.replace(genesis(model=model_digest(0)), spec=spec))
    commits = [chain.commit(model=model_digest(2)), chain.commit(model=model_digest(2))]
    with DataDirectory(tmp_path) as directory, Journal.open(directory.journal_path, node("ada")) as book:
        book.save(SaveGenesis(chain.run, chain.genesis))
        book.save_all([SaveCommit(chain.run, commit, 1.0) for commit in commits])
        store = BlobStore(directory.blobs_path)
        path = store.new_path()
        path.write_bytes(model(2))
        store.adopt(path, model_digest(2))
    target = tmp_path / "out"
    refused = run("export", "--data-dir", str(tmp_path), str(target)).exception
    assert isinstance(refused, UserError)
    assert "what is personal of run" in str(refused)
    folder = tmp_path / "memory" / chain.run[:32]
    folder.mkdir(parents=True)
    for commit, value in zip(commits, (1.0, 2.0), strict=True):
        name = f"{commit.record.round}-{commit.record.updates[0].digest[:32]}"
        save_file({"personal:head.bias": np.array([value], "<f4")}, folder / name)
    for options, value in (((), 2.0), (("--round", "1"), 1.0)):
        assert run("export", "--data-dir", str(tmp_path), str(target), "--force", *options).exit_code == 0
        assert load_file(target)["head.bias"].tolist() == [value]


def test_a_run_of_ditto_gives_the_common_model_or_with_personal_that_of_the_device(tmp_path: Path) -> None:
    chain, update = with_model(tmp_path, with_options(SPEC, strategy="ditto"))
    folder = tmp_path / "memory" / chain.run[:32]
    folder.mkdir(parents=True)
    own = {"weight": np.full((2, 3), 7, "<f4"), "steps": np.array(7, "<i8")}
    save_file({f"ditto:{name}": value for name, value in own.items()}, folder / f"1-{update[:32]}")
    target = tmp_path / "out"
    result = run("export", "--data-dir", str(tmp_path), str(target))
    assert result.exit_code == 0
    assert not read_info(target).is_personal
    common = load_file(target)
    assert common["weight"].ravel()[0] != 7
    result = run("export", "--data-dir", str(tmp_path), str(target), "--force", "--personal")
    assert result.stdout.startswith(f"Wrote {target}: the personal model of this device, round 1 of run")
    assert read_info(target).is_personal
    personal = load_file(target)
    assert set(personal) == set(common)
    assert {float(value.ravel()[0]) for value in personal.values()} == {7.0}


def test_personal_is_refused_where_the_devices_have_no_personal_models(tmp_path: Path) -> None:
    with_model(tmp_path, SPEC)
    error = run("export", "--data-dir", str(tmp_path), str(tmp_path / "out"), "--personal").exception
    assert isinstance(error, UserError)
    assert "--personal exports the personal model of a run with --strategy ditto" in str(error)


def with_model(folder: Path, spec: RunSpec) -> tuple[Chain, str]:
    """Write a data directory with one committed round; return its chain, and the digest of its update."""
    chain = Chain(msgspec.structs.replace(genesis(model=model_digest(0)), spec=spec))
    commit = chain.commit(model=model_digest(2))
    with DataDirectory(folder) as directory, Journal.open(directory.journal_path, node("ada")) as book:
        book.save(SaveGenesis(chain.run, chain.genesis))
        book.save(SaveCommit(chain.run, commit, 1.0))
        store = BlobStore(directory.blobs_path)
        path = store.new_path()
        path.write_bytes(model(2))
        store.adopt(path, model_digest(2))
    return chain, commit.record.updates[0].digest


def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path, data_dir: Path) -> None:
    target = tmp_path / "model.safetensors"
    target.write_text("precious")
    refused = run("export", "--data-dir", str(data_dir), str(target))
    assert isinstance(refused.exception, UserError)
    assert target.read_text() == "precious"
    assert run("export", "--data-dir", str(data_dir), str(target), "--force").exit_code == 0
    assert target.read_bytes().endswith(model(3)[len(header(SCHEMA)) :])


def test_an_exported_model_says_what_it_is(tmp_path: Path, data_dir: Path, chain: Chain) -> None:
    target = tmp_path / "model.safetensors"
    run("export", "--data-dir", str(data_dir), str(target), "--best")
    info = read_info(target)
    assert (info.spec, info.agreement()) == (SPEC, msgspec.structs.replace(AGREEMENT, input_shape=(1, 8, 8)))
    assert (info.run, info.round, info.digest) == (chain.run, 2, model_digest(2))
    rows = run("history", "--data-dir", str(data_dir), "--json").stdout.splitlines()
    assert info.record == json.loads(rows[1])["record"]
    assert info.metrics["accuracy"] == 0.9
    assert info.examples == 20


def asked(monkeypatch: pytest.MonkeyPatch) -> list[ConvertModel]:
    """Answer conversions as if they were done; return the requests."""
    requests: list[ConvertModel] = []

    def ask(request: ConvertModel) -> Iterator[Converted]:
        assert read_info(Path(request.model)).round == 3, "the model is there"
        requests.append(request)
        yield from (Converted(path) for path in (request.onnx, request.torchscript) if path)

    monkeypatch.setattr("p2pfl.learning.exports.judging.ask", ask)
    return requests


def test_other_formats_are_written_beside_the_file(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, target, pt = asked(monkeypatch), tmp_path / "m.safetensors", tmp_path / "m.pt"
    words = (
        "--data-dir",
        str(data_dir),
        str(target),
        "--torchscript",
        str(pt),
        "--task",
        "mine.py",
        "--force",
    )
    lines = run("export", *words).stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"Wrote {target}", f"Wrote {pt}"]
    assert requests == [ConvertModel(str(target), str(Path("mine.py").absolute()), "", str(pt), True)]


def test_other_formats_need_no_other_file(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, onnx = asked(monkeypatch), tmp_path / "out.onnx"
    result = run("export", "--data-dir", str(data_dir), "--onnx", str(onnx))
    assert result.stdout.startswith(f"Wrote {onnx}: round 3 of run ")
    assert (requests[0].onnx, requests[0].torchscript, requests[0].force) == (str(onnx), "", False)
    assert not Path(requests[0].model).exists(), "it was temporary"


def test_an_export_to_nowhere_is_told(data_dir: Path) -> None:
    error = run("export", "--data-dir", str(data_dir)).exception
    assert isinstance(error, UserError)
    assert "Name a file, for example `p2pfl export model.safetensors`" in str(error)


def test_a_damaged_journal_is_told(data_dir: Path) -> None:
    (data_dir / "journal.sqlite").write_bytes(b"junk" * 1000)
    error = run("history", "--data-dir", str(data_dir)).exception
    assert isinstance(error, DataDirectoryError)
    assert "is damaged" in str(error)


# --- what may still change, and what the rounds are called ---------------------------------------------------


def extended_dir(path: Path, chain: Chain) -> Path:
    """A data directory whose run of *chain* went on after its end: its fourth round, which ada has evaluated."""
    chain.commit(model=model_digest(4))
    last = chain.commits[-1].record
    with (
        DataDirectory(path / "longer") as directory,
        Journal.open(directory.journal_path, node("ada")) as book,
    ):
        book.save(SaveGenesis(chain.run, chain.genesis))
        book.save_all([SaveCommit(chain.run, commit, 12.5) for commit in chain.commits[:-1]])
        book.save(SaveCommit(chain.run, chain.commits[-1], 0.0))
        book.save(SaveReport(chain.run, last.round, node("ada"), evaluation(7, 10, 4.0)))
    return path / "longer"


def test_rounds_after_a_closing_evaluation_are_numbered_on(tmp_path: Path, chain: Chain) -> None:
    path = extended_dir(tmp_path, chain)
    rows = [
        json.loads(line) for line in run("history", "--data-dir", str(path), "--json").stdout.splitlines()
    ]
    assert [row["round"] for row in rows] == [1, 2, 3, 4]
    assert [row["index"] for row in rows] == [1, 2, 3, 5]
    last = run("history", "--data-dir", str(path)).stdout.splitlines()[-3].split()
    assert last[0] == "4"


def test_an_accuracy_that_is_not_committed_is_marked_and_says_on_what(tmp_path: Path, chain: Chain) -> None:
    path = extended_dir(tmp_path, chain)
    text = run("history", "--data-dir", str(path)).stdout
    assert text.count("~") == 2
    assert "~0.7000" in text
    assert text.splitlines()[-1] == "~ reported, not committed: round 4 by 1 of 3 members on 10 samples."
    rows = [
        json.loads(line) for line in run("history", "--data-dir", str(path), "--json").stdout.splitlines()
    ]
    assert [row["committed"] for row in rows] == [True, True, True, False]


def test_a_round_that_was_missed_has_no_seconds(tmp_path: Path, chain: Chain) -> None:
    path = extended_dir(tmp_path, chain)
    row = json.loads(run("history", "--data-dir", str(path), "--json").stdout.splitlines()[-1])
    assert row["seconds"] is None
    assert " - " in run("history", "--data-dir", str(path)).stdout.splitlines()[-3]


@pytest.mark.parametrize(
    ("trained", "rounds", "ended", "empty", "words"),
    [
        (3, 3, True, 0, "complete"),
        (3, 10, True, 0, "stopped"),
        (3, 10, False, 0, "unfinished"),
        (3, 3, True, 2, "complete, 2 of them without any update"),
        (3, 3, True, 3, "ended, but no update was ever counted: the model is not trained"),
    ],
)
def test_complete_is_a_run_that_trained(
    trained: int, rounds: int, ended: bool, empty: int, words: str
) -> None:
    row = rows_of(finished())[0]
    rows = [msgspec.structs.replace(row, updates=()) for _ in range(empty)] + [row] * (trained - empty)
    found = RunRow("1" * 64, SPEC, AGREEMENT, trained, trained, rounds, ended, False)
    assert state_of(found, rows) == words


def test_a_model_is_exported_by_the_number_people_see(tmp_path: Path, chain: Chain) -> None:
    path = extended_dir(tmp_path, chain)
    store = BlobStore(path / "blobs")
    new = store.new_path()
    new.write_bytes(model(4))
    store.adopt(new, model_digest(4))
    result = run("export", "--data-dir", str(path), "--round", "4", str(tmp_path / "out.safetensors"))
    assert result.exit_code == 0, result.output
    assert ": round 4 of run" in result.stdout
    assert "accuracy 0.7000 as 1 of 3 members reported" in result.stdout


def test_the_only_data_directory_need_not_be_given(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfl.observe.target.default_place", lambda: data_dir.parent)
    assert run("history").output == run("history", "--data-dir", str(data_dir)).output
    assert run("export", str(data_dir.parent / "m.safetensors")).exit_code == 0


# --- history --verify; what it looks for is tested with `p2pfl.store.verify` -----------------------------------


@pytest.fixture
def empty() -> Chain:
    """A run without a commit."""
    return Chain()


def directory(path: Path, name: str, chain: Chain, rounds: int, **options: object) -> str:
    """A data directory of *name* after *rounds* more commits of *chain*."""
    with (
        DataDirectory(path / name) as place,
        Journal.open(place.journal_path, node(name)) as book,
    ):
        book.save(SaveGenesis(chain.run, chain.genesis))
        for _ in range(rounds):
            book.save(SaveCommit(chain.run, chain.commit(**options), 1.0))  # type: ignore[arg-type]
    return str(path / name)


def test_a_clean_directory_exits_0_and_says_how_much_was_checked(tmp_path: Path, empty: Chain) -> None:
    result = run("history", "--verify", "--data-dir", directory(tmp_path, "ada", empty, 3))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "Checked 1 data directory: 1 run, 3 records with their quorums and votes, 0 models read from end to end.",
        "Nothing is wrong.",
    ]


def test_faults_are_a_line_each_and_exit_1(tmp_path: Path, empty: Chain) -> None:
    one = directory(tmp_path, "ada", empty, 2, note="one way")
    empty.commits.clear()
    other = directory(tmp_path, "ben", empty, 3, note="the other")
    result = run("history", "--verify", "--data-dir", one, "--data-dir", other)
    assert result.exit_code == 1
    fault, checked, summary = result.stdout.splitlines()
    assert fault.startswith(f"✗ {other}: run {empty.run[:7]}: round 1 is committed with another record")
    assert fault.endswith("keep both data directories as they are, and report this.")
    assert checked.startswith("Checked 2 data directories: 1 run, 5 records")
    assert summary == "1 fault found, see above."


def test_what_a_hostile_journal_says_reaches_the_terminal_as_plain_text(tmp_path: Path, empty: Chain) -> None:
    place = tmp_path / "\x1b[2Jada"
    path = directory(place, "ada", empty, 1, kind="evaluate", model="0" * 64)
    (place / "ada" / "journal.sqlite").write_bytes(b"no journal")
    for leftover in (place / "ada").glob("journal.sqlite-*"):
        leftover.unlink()
    result = run("history", "--verify", "--data-dir", path)
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("words", [("--json",), ("--run", "abc")])
def test_options_of_the_other_report_are_refused(
    tmp_path: Path, empty: Chain, words: tuple[str, ...]
) -> None:
    result = run("history", "--verify", "--data-dir", directory(tmp_path, "ada", empty, 1), *words)
    assert isinstance(result.exception, UserError)
    assert "leave --json, --csv, --jsonl, --svg, --png and --run out" in str(result.exception)


def test_several_directories_are_for_verify_only(tmp_path: Path, empty: Chain) -> None:
    words = [f"--data-dir={directory(tmp_path, name, empty, 0)}" for name in ("ada", "ben")]
    result = run("history", *words)
    assert isinstance(result.exception, UserError)
    assert "only --verify takes several data directories" in str(result.exception)
