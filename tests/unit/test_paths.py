"""What is at a path, as far as this user may look: nothing raises, and obstacles are told in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pfl import paths
from p2pfl.errors import UserError

LONG = "n" * 300


def test_what_is_there_is_seen(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "file").write_text("")
    assert paths.holds_file(tmp_path / "file")
    assert paths.holds_folder(tmp_path / "a")
    assert paths.folders_in(tmp_path) == [tmp_path / "a", tmp_path / "b"]


def closed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the system refuse to look into *folder*, as it would refuse other users than root."""
    stat = os.stat

    def refuse(path: object, *args: object, **options: object) -> os.stat_result:
        if isinstance(path, str | Path) and folder in Path(path).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "listdir", lambda path: (_ for _ in ()).throw(PermissionError(13, "no")))


def test_a_folder_that_may_not_be_looked_into_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    closed(monkeypatch, tmp_path / "x")
    assert not paths.is_there(tmp_path / "x" / "y")
    assert not paths.holds_folder(tmp_path / "x" / "y")
    assert paths.folders_in(tmp_path / "x") == []
    assert paths.obstacle(tmp_path / "x" / "y") == "this user may not look into it or a folder above it"


def test_a_name_that_is_too_long_is_not_there_and_said_to_be_too_long(tmp_path: Path) -> None:
    assert not paths.holds_file(tmp_path / LONG)
    assert not paths.is_there(tmp_path / LONG)
    assert "too long" in paths.obstacle(tmp_path / LONG)


def test_what_is_missing_or_fine_is_no_obstacle(tmp_path: Path) -> None:
    assert paths.obstacle(tmp_path / "missing") == ""
    assert paths.obstacle(tmp_path) == ""
    (tmp_path / "file").write_text("")
    assert "a file, not a folder" in paths.obstacle(tmp_path / "file" / "below")
    assert "no path can have" in paths.obstacle(Path("a\0b"))


def test_a_home_folder_that_does_not_exist_is_an_error_of_the_user() -> None:
    with pytest.raises(UserError, match="no such user"):
        paths.full(Path("~nobody-of-this-name/x"))


def test_a_path_that_is_no_text_is_an_error_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\\xff is no valid UTF-8"):
        paths.full(tmp_path / os.fsdecode(b"a\xff"))


def test_a_user_without_a_home_has_no_place_for_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("platformdirs.user_data_path", refuse)
    assert paths.user_data("p2pfl") is None
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_, **__: Path("~/.local/share/p2pfl"))
    assert paths.user_data("p2pfl") is None


def test_the_user_s_configuration_is_a_folder_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    place = paths.user_config("p2pfl")
    assert place is not None
    assert place.name == "p2pfl"

    def refuse(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("platformdirs.user_config_path", refuse)
    assert paths.user_config("p2pfl") is None
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: Path("~/.config/p2pfl"))
    assert paths.user_config("p2pfl") is None


def test_a_path_in_a_suggested_command_is_one_word() -> None:
    assert paths.quoted(Path("/a b/c")) == "'/a b/c'"
    assert paths.quoted("/a/c") == "/a/c"
