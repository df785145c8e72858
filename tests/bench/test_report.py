"""Tests of the benches' command lines and reports: verdicts, tables, files, and the figures in README.md."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.bench import __main__ as program
from tests.bench import command_line
from tests.bench.report import (
    Bench,
    Commit,
    Figure,
    Machine,
    Report,
    line,
    markdown,
    read_json,
    shown,
    write_json,
)

MACHINE = Machine("a processor", 2, 8.0, "ext4, fsync 1.0 ms", "Linux", "3.11.7", "2.14.1", "OpenSSL 3", 0.1)


def report_of(*benches: Bench) -> Report:
    return Report(MACHINE, Commit("0123abc", True), False, 90.0, benches)


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("a", 1.0, "s", 1.0), "within"),
        (Figure("a", 1.1, "s", 1.0), "missed"),
        (Figure("a", 0.6, "", 0.5, ">="), "within"),
        (Figure("a", 0.4, "", 0.5, ">="), "missed"),
        (Figure("a", 0.4), ""),
    ],
)
def test_a_verdict_compares_with_the_budget_and_needs_one(figure: Figure, verdict: str) -> None:
    assert figure.verdict == verdict
    assert verdict in line(figure)


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1,234"), (12.34, "12.3"), (1.234, "1.23"), (0.0123, "0.012"), (0, "0")]
)
def test_a_value_is_shown_with_the_digits_that_mean_something(value: float, text: str) -> None:
    assert shown(value) == text


def test_a_report_written_to_a_file_is_read_back_the_same(tmp_path: Path) -> None:
    report = report_of(Bench("start", 3.0, (Figure("help", 0.1, "s", 0.3, note="warm"),), "it fell"))
    write_json(tmp_path / "report.json", report)
    assert read_json(tmp_path / "report.json") == report


def test_what_other_programs_measured_too_stands_beside_ours_and_the_rest_does_not() -> None:
    ours = Bench("round", 1.0, (Figure("overhead", 0.5, "s"), Figure("only ours", 7.0)))
    theirs = Bench("peers.flower", 1.0, (Figure("overhead", 3.5, "s"), Figure("only theirs", 8.0)))
    text = markdown(report_of(ours, theirs))
    assert "| overhead | 0.50 s | 3.50 s |" in text
    assert "| what | p2pfl, this one | flower |" in text
    assert text.count("only ours") == text.count("only theirs") == 1


def test_a_bench_that_failed_is_named_with_the_figures_it_found() -> None:
    text = markdown(report_of(Bench("pull", 1.0, (Figure("rate", 500.0, "MB/s"),), "it lost its holder")))
    assert "| pull | rate | 500 MB/s |" in text
    assert "`pull` did not complete: it lost its holder" in text


def test_the_table_replaces_what_stood_between_the_markers_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{program.BEGIN}old\n{program.END}after\n", encoding="utf-8")
    program.put_between_markers(page, "new")
    program.put_between_markers(page, "newer")
    assert page.read_text(encoding="utf-8") == f"before\n{program.BEGIN}\nnewer\n{program.END}after\n"


def test_a_page_without_markers_stays_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("no markers", encoding="utf-8")
    with pytest.raises(SystemExit, match="lacks the lines"):
        program.put_between_markers(page, "new")
    assert page.read_text(encoding="utf-8") == "no markers"


def test_a_failing_bench_leaves_what_it_found_and_why_it_failed(tmp_path: Path) -> None:
    def measure(settings: command_line.Settings) -> Iterator[Any]:
        yield Figure("first", 1.0)
        raise RuntimeError("no holder\nat all")

    with pytest.raises(RuntimeError):
        command_line.report_on("pull", measure, is_quick=True, json=tmp_path / "report.json")
    [bench] = read_json(tmp_path / "report.json").benches
    assert [figure.what for figure in bench.figures] == ["first"]
    assert bench.fault == "RuntimeError: no holder"


def test_a_bench_that_wrote_nothing_is_reported_and_does_not_end_the_run(tmp_path: Path) -> None:
    bench = program._run("none", ["-c", "raise SystemExit(3)"])
    assert bench.figures == ()
    assert bench.fault == "it ended with exit code 3"


def test_a_part_of_the_benches_does_not_replace_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--only=start", "--write-readme"])
    with pytest.raises(SystemExit, match="2"):
        program.main()


def test_every_bench_is_a_module_that_the_page_describes() -> None:
    page = program.README.read_text(encoding="utf-8")
    for name in program.BENCHES:
        assert importlib.util.find_spec(f"tests.bench.bench_{name}") is not None
        assert f"`bench_{name}`" in page
    modules = {path.stem.removeprefix("bench_") for path in program.README.parent.glob("bench_*.py")}
    assert modules == set(program.BENCHES)
    for name in program.PEERS:
        assert importlib.util.find_spec(f"tests.bench.peers.{name}") is not None


def test_the_page_has_the_markers_the_program_looks_for() -> None:
    page = program.README.read_text(encoding="utf-8")
    assert page.index(program.BEGIN) < page.index(program.END)


def test_a_report_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"machine": 1}', encoding="utf-8")
    with pytest.raises(msgspec.DecodeError):
        read_json(tmp_path / "report.json")
