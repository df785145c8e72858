"""The command as a whole: `p2pfl/cli/__init__.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import p2pfl
from p2pfl import cli
from p2pfl.cli import SUBCOMMANDS, Subcommand, main
from p2pfl.errors import UserError


def run(*words: str) -> tuple[int, str, str]:
    """Run the command in a process of its own; return exit code, output, errors."""
    done = subprocess.run(
        [sys.executable, "-c", "from p2pfl.cli import main; main()", *words], capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def main_that(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """Run `p2pfl certs` in this process, with a subcommand that raises *error*; return the exit code."""

    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "fail", fail, raising=False)
    monkeypatch.setitem(SUBCOMMANDS, "certs", Subcommand("p2pfl.cli", "fail", ""))
    monkeypatch.setattr(sys, "argv", ["p2pfl", "certs"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_help_lists_every_subcommand_and_imports_none() -> None:
    code = (
        "import atexit, sys; sys.argv[1:] = ['--help']\n"
        "ours = lambda: sorted(name for name in sys.modules if name.startswith('p2pfl.'))\n"
        "atexit.register(lambda: print(ours()))\n"
        "from p2pfl.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in SUBCOMMANDS:
        assert f"\n  {name} " in done.stdout
    assert (
        done.stdout.splitlines()[-1]
        == "['p2pfl.cli', 'p2pfl.cli.options', 'p2pfl.errors', 'p2pfl.exit_codes', 'p2pfl.streams']"
    )


@pytest.mark.parametrize("heavy", ["torch", "rich", "cryptography", "asyncio", "sqlite3"])
def test_help_of_the_node_imports_nothing_heavy(heavy: str) -> None:
    code = (
        f"import sys, atexit; atexit.register(lambda: print({heavy!r} in sys.modules)); "
        "sys.argv[1:] = ['node', '--help']; from p2pfl.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--peers" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_the_package_s(flag: str) -> None:
    assert run(flag) == (0, f"p2pfl {p2pfl.__version__}\n", "")


@pytest.mark.parametrize(
    "words", [(), ("node",), ("certs",), ("certs", "init"), ("config", "show"), ("continue",)]
)
def test_h_is_short_for_help_everywhere(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli.app, [*words, "-h"])
    assert result.exit_code == 0
    assert f"{' '.join(['', *words])} [OPTIONS]" in result.output
    assert "-h, --help" in result.output


def test_an_error_has_a_colour_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    _, _, errors = run("certs", "show", "--certs", "none")
    assert errors.startswith("\x1b[31mp2pfl: There are no certificates")
    monkeypatch.delenv("FORCE_COLOR")
    assert "\x1b" not in run("certs", "show", "--certs", "none")[2]


def test_an_error_of_ours_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    code, output, errors = run("certs", "show", "--certs", str(tmp_path / "none"))
    assert (code, output) == (2, "")
    assert errors.startswith("p2pfl: There are no certificates in ")
    assert errors.count("\n") == 1


def test_a_misspelled_subcommand_is_guessed() -> None:
    code, _, errors = run("histroy")
    assert code == 2
    assert "'history'" in errors
    assert "'node'" in run("nod")[2]


def test_no_subcommand_shows_the_help() -> None:
    _, output, errors = run()
    assert "Usage: p2pfl" in output + errors


def test_an_interrupted_command_ends_with_130_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_that(monkeypatch, KeyboardInterrupt()) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_the_message_of_a_user_error_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_that(monkeypatch, UserError("Something is missing; bring it.")) == 2
    assert capsys.readouterr().err == "p2pfl: Something is missing; bring it.\n"


def test_an_unforeseen_error_names_the_file_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main_that(monkeypatch, ZeroDivisionError("why")) == 70
    errors = capsys.readouterr().err
    (kept,) = tmp_path.iterdir()
    assert "ZeroDivisionError: why" in errors
    assert str(kept) in errors
    assert "Traceback" not in errors
    assert "in fail" in kept.read_text()


def test_output_into_a_closed_pipe_is_quiet() -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", "input(); from p2pfl.cli import main; main()", "--help"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert writer.stdout is not None
    writer.stdout.close()
    _, errors = writer.communicate(b"\n")
    assert errors == b""


def test_an_unknown_subcommand_has_no_command() -> None:
    result = CliRunner().invoke(cli.app, ["nothing-like-it"])
    assert result.exit_code == 2
