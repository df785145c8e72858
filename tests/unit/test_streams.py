"""Standard streams that are lost, closed, full, not read, or lack our symbols."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfl import streams
from p2pfl.streams import MAX_BUFFERED_BYTES, Outlet, OutputLost, can_encode, replace_lacking

SYMBOLS = "✓ round 1 · ★ ▁█ 日"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's two ends."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            assert end == ends[0], "only the reading end is closed by a test"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def node(descriptor: int) -> Outlet:
    """The outlet of a node."""
    outlet = Outlet(descriptor, "standard output", must_go_on=False)
    outlet.go_on()
    return outlet


def fill(descriptor: int) -> None:
    """Write to a pipe until it takes no more."""
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x" * 4096)
    os.set_blocking(descriptor, True)


def test_a_command_ends_when_its_reader_has_gone(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    outlet = Outlet(pipe[1], "standard output", must_go_on=False)
    with pytest.raises(OutputLost) as caught:
        outlet.write(b"line")
    assert caught.value.is_reader_gone
    assert outlet.write(b"more") == 4, (
        "what comes later is dropped, so nothing fails at the interpreter's end"
    )


def test_a_full_disk_is_no_reader_that_has_gone() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(OutputLost, match="No space") as caught,
    ):
        Outlet(full.fileno(), "standard output", must_go_on=False).write(b"line")
    assert not caught.value.is_reader_gone


def test_a_node_goes_on_without_its_reader_and_tells_the_log_once(
    pipe: tuple[int, int], log: pytest.LogCaptureFixture
) -> None:
    os.close(pipe[0])
    outlet = node(pipe[1])
    for _ in range(3):
        assert outlet.write(b"line") == 4
    [told] = log.messages
    assert "standard output cannot be written to any more (Broken pipe)" in told


def test_a_reader_that_does_not_read_never_holds_a_node_up(
    pipe: tuple[int, int], log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PATIENCE_SECONDS", 0.0)
    fill(pipe[1])
    outlet = node(pipe[1])
    for number in range(2 * MAX_BUFFERED_BYTES // 8):
        outlet.write(b"%07d\n" % number)
    [told] = log.messages
    assert "is not read" in told
    read = b""
    while not read.endswith(b"nobody read them)\n"):
        read += os.read(pipe[0], 1 << 20)
        outlet.write(b"")
    lines = read.lstrip(b"x").splitlines()
    assert lines[:2] == [b"0000000", b"0000001"]
    assert lines[-1] == b"(%d bytes of output were dropped here: nobody read them)" % MAX_BUFFERED_BYTES


def test_a_terminal_that_is_closed_is_lost(log: pytest.LogCaptureFixture) -> None:
    ours, theirs = pty.openpty()
    outlet = node(theirs)
    os.close(ours)
    assert outlet.write(b"line") == 4
    os.close(theirs)
    assert os.strerror(errno.EIO) in log.text


def test_symbols_that_an_encoding_lacks_become_ascii() -> None:
    streams.install_outlets()  # registers the error handler; a test's streams are left alone
    assert SYMBOLS.encode("ascii", streams.ERRORS) == rb"+ round 1 . * _# \u65e5"
    assert SYMBOLS.encode("latin-1", streams.ERRORS) == rb"+ round 1 \xb7 * _# \u65e5".replace(
        rb"\xb7", b"\xb7"
    )
    assert "a\udcff".encode("utf-8", streams.ERRORS) == rb"a\udcff"


def test_other_errors_than_lacking_characters_are_raised() -> None:
    error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why")
    with pytest.raises(UnicodeDecodeError):
        replace_lacking(error)


@pytest.mark.parametrize(("encoding", "expected"), [("utf-8", True), ("latin-1", False), (None, False)])
def test_whether_a_stream_can_show_a_text_is_known(encoding: str | None, expected: bool) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding) if encoding else object()
    assert can_encode(stream, SYMBOLS) is expected


PROGRAM = "from p2pfl.cli import main; main()"


def run(script: str, *, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run *script* in a shell, with `p2pfl` in it for this program."""
    program = f"p2pfl() {{ '{sys.executable}' -c '{PROGRAM}' \"$@\"; }}; "
    return subprocess.run(
        ["/bin/bash", "-c", program + script],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        check=False,
    )


LONG = "simulate --nodes 3 --rounds 3 --seed 1 --trace"


def test_a_command_whose_reader_goes_away_ends_silently_as_by_sigpipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", PROGRAM, *LONG.split()]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode == 141
    assert done.stderr == ""


def test_a_command_says_that_a_disk_is_full() -> None:
    done = run(f"p2pfl {LONG} > /dev/full")
    assert done.returncode == 2
    assert done.stderr == "p2pfl: standard output cannot be written to: No space left on device\n"


def test_closed_streams_are_no_fault(tmp_path: Path) -> None:
    assert run(f"p2pfl {LONG} >&- 2>&- <&-").returncode == 0


def test_an_encoding_without_our_symbols_is_no_fault(tmp_path: Path) -> None:
    script = f"p2pfl doctor --certs '{tmp_path}' --data-dir '{tmp_path}' --listen 127.0.0.1:0"
    done = run(script, environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1
    assert "+ ok    p2pfl" in done.stdout
    assert "x FAIL  There is no certificate" in done.stdout


def test_an_argument_that_is_no_text_is_refused_in_a_sentence() -> None:
    done = run("p2pfl history --data-dir $'a\\xff'")
    assert done.returncode == 2
    assert done.stderr.startswith("p2pfl: the argument 'a\\xff' is no text in this locale's encoding")
