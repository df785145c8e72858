from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tui import preferences
from tui.preferences import Preferences, load, save


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "config" / "p2pfl"
    monkeypatch.setattr(preferences, "user_config", lambda name: folder if name == "p2pfl" else None)
    return folder


def test_what_is_saved_is_read_again_and_nobody_else_reads_it(folder: Path) -> None:
    assert load() == Preferences()
    for theme in ("nord", "p2pfl-light"):
        save(Preferences(theme))
        assert load() == Preferences(theme)
    assert [path.name for path in folder.iterdir()] == [preferences.FILE]
    assert stat.S_IMODE((folder / preferences.FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"theme": 3}', b"\xff", b'{"theme": "' + b"x" * 9000 + b'"}']
)
def test_a_damaged_file_is_as_none(folder: Path, content: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / preferences.FILE).write_bytes(content)
    assert load() == Preferences()
    save(Preferences("nord"))
    assert load() == Preferences("nord")


def test_where_nothing_can_be_written_nothing_is_remembered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.parent.mkdir()
    folder.write_text("a file")
    save(Preferences("nord"))
    assert load() == Preferences()
    monkeypatch.setattr(preferences, "user_config", lambda _: None)
    save(Preferences("nord"))
    assert load() == Preferences()
