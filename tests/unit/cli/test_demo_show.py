"""The terminal UI over a demo: opened, ended by itself, ended by the demo."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from p2pfl.cli import demo_show
from p2pfl.cli.demo_show import Show
from tests.support.processes import until

DEAF = (
    "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1][11:], 'w').close()"
)
POLITE = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); "
    "open(sys.argv[1][11:], 'w').close()"
)
FOREVER = "\nwhile True: signal.pause()"


def show_of(folder: Path, code: str) -> Show:
    """Return a show with *code* in the place of the terminal UI; it makes the file it is opened on."""
    return Show(folder, (sys.executable, "-c", code))


async def test_it_is_opened_on_a_node_of_the_demo(tmp_path: Path) -> None:
    wanted = f"assert sys.argv[1:] == ['--data-dir=/a/node-1', '--demo={tmp_path}']"
    show = show_of(tmp_path, f"import sys; {wanted}")
    assert not show.is_open
    await show.open(Path("/a/node-1"))
    await until(lambda: not show.is_open, "its end")
    assert show.exit_code == 0
    await show.close()


async def test_it_is_asked_to_end(tmp_path: Path) -> None:
    show = show_of(tmp_path, POLITE + FOREVER)
    await show.open(tmp_path / "up")
    await until(lambda: (tmp_path / "up").exists(), "a screen that is up")
    assert show.is_open
    await show.close()
    assert (show.is_open, show.exit_code) == (False, 5)


async def test_one_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_show, "GRACE_SECONDS", 0.05)
    show = show_of(tmp_path, DEAF + FOREVER)
    await show.open(tmp_path / "up")
    await until(lambda: (tmp_path / "up").exists(), "a screen that is up")
    await show.close()
    assert show.exit_code == -9


async def test_one_that_was_never_opened_has_nothing_to_close(tmp_path: Path) -> None:
    show = Show(tmp_path)
    await show.close()
    assert (show.is_open, show.exit_code) == (False, None)
