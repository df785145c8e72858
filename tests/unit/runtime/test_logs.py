from __future__ import annotations

import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfl.errors import DataDirectoryError
from p2pfl.runtime.logs import LOG_FILE, close_logging, keep_traceback, set_up_logging, set_verbosity


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_logging()


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run nine hours east of UTC."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def say_everything() -> None:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger("p2pfl.net.mesh").log(level, "level %d", level)


@pytest.mark.parametrize(
    ("verbosity", "levels"), [(-1, [40]), (0, [30, 40]), (1, [20, 30, 40]), (2, [10, 20, 30, 40])]
)
def test_verbosity_decides_what_the_terminal_shows(
    capsys: pytest.CaptureFixture[str], verbosity: int, levels: list[int]
) -> None:
    set_up_logging(verbosity, None)
    say_everything()
    assert [int(n) for n in re.findall(r"level (\d+)", capsys.readouterr().err)] == levels


@pytest.mark.parametrize(("verbosity", "levels"), [(-1, [20, 30, 40]), (2, [10, 20, 30, 40])])
def test_the_file_has_what_happens_however_quiet_the_terminal_is(
    tmp_path: Path, verbosity: int, levels: list[int]
) -> None:
    set_up_logging(verbosity, tmp_path / "logs")
    say_everything()
    assert [int(n) for n in re.findall(r"level (\d+)", (tmp_path / "logs" / LOG_FILE).read_text())] == levels


def test_standard_error_that_is_no_terminal_has_dates(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(0, None)
    logging.getLogger("p2pfl.net").warning("a line")
    line = capsys.readouterr().err
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d WARNING p2pfl.net: a line\n", line)


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7)],
)
def test_the_journal_gets_the_priority_of_each_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int, priority: int
) -> None:
    path = tmp_path / "journal"
    with path.open("w") as journal:
        found = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        monkeypatch.setattr("sys.stderr", journal)
        set_up_logging(2, None)
        logging.getLogger("p2pfl.net").log(level, "a line")
        close_logging()
    assert path.read_text().startswith(f"<{priority}>")
    assert path.read_text().endswith("p2pfl.net: a line\n")


def test_the_worker_s_output_is_in_the_file_with_a_time_in_utc(tmp_path: Path, in_tokyo: None) -> None:
    set_up_logging(0, tmp_path)
    record = logging.makeLogRecord(
        {
            "name": "p2pfl.worker",
            "levelno": 20,
            "levelname": "INFO",
            "msg": "hello",
            "created": 0.25,
            "msecs": 250,
        }
    )
    logging.getLogger("p2pfl.worker").handle(record)
    assert (tmp_path / LOG_FILE).read_text() == "1970-01-01T00:00:00.250Z INFO p2pfl.worker: hello\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_a_data_directory_that_begins_with_its_log_is_for_its_user_only(tmp_path: Path) -> None:
    set_up_logging(0, tmp_path / "data" / "logs")
    for folder in (tmp_path / "data", tmp_path / "data" / "logs"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_second_set_up_replaces_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(0, tmp_path / "a")
    set_up_logging(0, tmp_path / "b")
    logging.getLogger("p2pfl").warning("once")
    assert capsys.readouterr().err.count("once") == 1
    assert (tmp_path / "a" / LOG_FILE).read_text() == ""


def test_the_level_changes_while_the_log_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(0, tmp_path)
    logger = logging.getLogger("p2pfl.any")
    logger.debug("one")
    set_verbosity(2)
    logger.debug("two")
    set_verbosity(-1)
    logger.info("three")
    logger.debug("four")
    assert re.fullmatch(r"\S+ \S+ DEBUG p2pfl.any: two\n", capsys.readouterr().err)
    text = (tmp_path / LOG_FILE).read_text()
    assert [word for word in ("one", "two", "three", "four") if word in text] == ["two", "three"]


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataDirectoryError, match=rf"cannot create the folder {re.escape(str(tmp_path))}"):
        set_up_logging(0, tmp_path / "file" / "logs")


def test_a_traceback_goes_to_the_log_file(tmp_path: Path) -> None:
    set_up_logging(-1, tmp_path)
    assert keep_traceback(raised(ZeroDivisionError("why"))) == tmp_path / LOG_FILE
    text = (tmp_path / LOG_FILE).read_text()
    assert "CRITICAL" in text
    assert "Traceback (most recent call last)" in text
    assert text.rstrip().endswith("ZeroDivisionError: why")


def test_without_a_log_file_a_traceback_goes_to_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = keep_traceback(raised(ZeroDivisionError("why")))
    assert path.parent == tmp_path
    assert Path(path).read_text().endswith("ZeroDivisionError: why\n")


def raised(error: Exception) -> Exception:
    """Return *error* as it is once it was raised: with a traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_of_once_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / LOG_FILE).symlink_to("/dev/full")
    set_up_logging(-1, tmp_path)
    for _ in range(3):
        logging.getLogger("p2pfl.store").info("a line")
    close_logging()
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written any more (No space left on device)" in line
