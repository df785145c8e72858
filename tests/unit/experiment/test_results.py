from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from p2pfl.errors import UserError
from p2pfl.experiment.results import ResultFolder, ResultsUnwritableError, digest_of_run
from p2pfl.learning.data import DataPlaces
from tests.support.experiments import planned
from tests.support.simulated import quick_run, row, table_run
from tests.support.tables import write_table
from tests.support.user_tasks import write_task

ROWS = [row(1), row(2, left_out=((3, "lost"),))]


def test_a_complete_run_is_found_again(tmp_path: Path) -> None:
    folder, one = ResultFolder(tmp_path / "results"), planned(strategy="median")
    assert folder.read(one) is None
    assert list(folder.write(one, "accuracy", "max", ROWS)) == ROWS
    found = ResultFolder(tmp_path / "results").read(one)
    assert found is not None
    assert (found.planned, found.primary, found.direction, list(found.rows)) == (one, "accuracy", "max", ROWS)
    assert (found.last, found.best, found.seconds) == (0.52, 0.52, 1.0)


def test_a_file_has_all_options_of_its_run(tmp_path: Path) -> None:
    folder, one = ResultFolder(tmp_path), planned(3, strategy="median")
    list(folder.write(one, "accuracy", "max", ROWS))
    [file] = (tmp_path / "runs").iterdir()
    written = json.loads(file.read_text().splitlines()[0])["run"]
    assert (written["clients"], written["spec"]["seed"], written["spec"]["strategy"]["type"]) == (
        4,
        3,
        "median",
    )
    assert folder.metrics() == {"accuracy"}
    file.write_text("not JSON\n")
    assert folder.metrics() == set()


def test_two_commands_do_not_write_to_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ResultFolder(tmp_path), ResultFolder(tmp_path)
    taken = r"Another command runs an experiment in .*; wait for it, or name another"
    with first.locked(), pytest.raises(UserError, match=taken), second.locked():
        pass
    with second.locked():
        pass

    def without_locks(file: object) -> bool:
        raise OSError("no locks available")

    monkeypatch.setattr("p2pfl.experiment.results.try_lock", without_locks)
    with first.locked():
        (tmp_path / "runs" / "reached").touch()
    assert (tmp_path / "runs" / "reached").exists()
    (tmp_path / "runs" / "lock").unlink()
    (tmp_path / "runs" / "lock").mkdir()
    with (
        pytest.raises(ResultsUnwritableError, match="Is a directory; see that this can be written"),
        first.locked(),
    ):
        pass


def test_a_run_that_was_cut_off_is_not_complete(tmp_path: Path) -> None:
    folder, one = ResultFolder(tmp_path), planned()
    rows = folder.write(one, "accuracy", "max", ROWS)
    next(rows)
    rows.close()
    assert folder.read(one) is None
    list(folder.write(one, "accuracy", "max", ROWS))
    assert folder.read(one) is not None
    [file] = (tmp_path / "runs").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    assert folder.read(one) is None


def test_changed_settings_are_another_run(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    list(folder.write(planned(1), "accuracy", "max", ROWS))
    assert folder.read(planned(2)) is None
    assert (folder.others([planned(1)]), folder.others([planned(2)])) == (0, 1)


def test_what_computes_a_run_does_not_change_its_results() -> None:
    run = quick_run()
    moved = msgspec.structs.replace(run, workers=7, places=DataPlaces(root=Path("/elsewhere"), download=True))
    assert digest_of_run(moved) == digest_of_run(run)
    assert digest_of_run(quick_run(lr=0.3)) != digest_of_run(run)


def test_other_data_are_another_run(tmp_path: Path) -> None:
    digests = []
    for place, value in (("a", 1), ("b", 2), ("c", 1)):
        (tmp_path / place).mkdir()
        table = write_table(tmp_path / place / "people.csv", ["x", "target"], [(value, 0), (3, 1)])
        digests.append(digest_of_run(table_run(table)))
    assert digests[0] == digests[2] != digests[1], "the same name, and other rows"


def test_other_pictures_are_another_run(tmp_path: Path) -> None:
    digests = []
    for place, size in (("a", 1), ("b", 2)):
        (tmp_path / place / "cat").mkdir(parents=True)
        (tmp_path / place / "cat" / "1.png").write_bytes(b"x" * size)
        places = DataPlaces(own=tmp_path / place)
        digests.append(digest_of_run(msgspec.structs.replace(quick_run(), places=places)))
    (tmp_path / "a" / os.fsdecode(b"caf\xe9.png")).touch()  # no UTF-8
    for place in ("a", "none", "nowhere"):
        places = DataPlaces(own=tmp_path / place / "")
        digests.append(digest_of_run(msgspec.structs.replace(quick_run(), places=places)))
    assert len({*digests, digest_of_run(quick_run())}) == 5, "a folder is read once"


def test_another_source_of_the_task_is_another_run(tmp_path: Path) -> None:
    write_task(tmp_path, "def model(): ...\ndef data(): ...")
    run = quick_run(task=tmp_path / "mine.py", model=None)
    before = digest_of_run(run)
    (tmp_path / "moved").mkdir()
    write_task(tmp_path / "moved", "def model(): ...\ndef data(): ...")
    assert digest_of_run(quick_run(task=tmp_path / "moved" / "mine.py", model=None)) == before
    write_task(tmp_path, "def model(): 3\ndef data(): ...")
    assert digest_of_run(run) != before


def test_another_source_of_a_strategy_is_another_run(tmp_path: Path) -> None:
    source = "import p2pfl\nclass Mine(p2pfl.Elementwise):\n    def combine(self): ..."
    run = quick_run(strategy=f"{write_task(tmp_path, source, 'mine.py')}:Mine")
    before = digest_of_run(run)
    write_task(tmp_path, source + " # changed", "mine.py")
    assert digest_of_run(run) != before


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be made: .*; name another one with --output"):
        ResultFolder(tmp_path / "file" / "results")
    folder, one = ResultFolder(tmp_path), planned()
    (tmp_path / "runs" / f"{digest_of_run(one.run)}.jsonl").mkdir()
    with pytest.raises(UserError, match=r"cannot be written to .*start the same command again"):
        list(folder.write(one, "accuracy", "max", ROWS))
