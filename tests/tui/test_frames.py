"""Frames of a recording, as SVG and for asciinema."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from p2pfl.errors import UserError
from p2pfl.runtime.observing.publish import as_json
from tests.support import recordings
from tests.support.source import ROOT
from tui import frames
from tui.frames import Look, moment_of, size_of, write_cast, write_film, write_svg
from tui.source import Replay


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(as_json(one) + b"\n" for one in recordings.running(rounds=12)))
    return path


def text_of_svg(path: Path) -> str:
    found = ElementTree.fromstring(path.read_text(encoding="utf-8")).itertext()
    return "\n".join(found).replace("\N{NO-BREAK SPACE}", " ")


def played(lines: list[str], height: int) -> list[list[str]]:
    """The rows after each frame: what a terminal would show, with its colours."""
    rows, shots = [""] * height, []
    for line in lines:
        _, kind, text = json.loads(line)
        assert kind == "o"
        _, *parts = re.split(r"\x1b\[(\d+);1H\x1b\[0m", text)
        for number, row in zip(parts[::2], parts[1::2], strict=True):
            rows[int(number) - 1] = row
        shots.append(list(rows))
    return shots


def test_a_frame_is_an_svg_of_that_round(path: Path, tmp_path: Path) -> None:
    write_svg(Replay(path), tmp_path / "f.svg", "r3", Look((100, 30)))
    text = text_of_svg(tmp_path / "f.svg")
    assert "r3/" in text
    assert "lab-desktop" in text
    assert "★" in text


def test_the_end_is_shown_unless_a_moment_is_named(path: Path, tmp_path: Path) -> None:
    replay = Replay(path)
    assert moment_of(replay, None) == replay.begin + replay.seconds
    assert moment_of(replay, "2.5") == replay.begin + 2.5
    odd = Replay(path.rename(tmp_path / "\x1b.jsonl"))
    write_svg(odd, tmp_path / "f.svg", None, Look((80, 24), "p2pfl-light", ascii_only=True))
    text = text_of_svg(tmp_path / "f.svg")
    assert "r11/" in text
    assert text.isascii()


@pytest.mark.parametrize("at", ["x", "-1", "r", "r99", "1e9", ""])
def test_a_moment_that_is_none_is_one_sentence(at: str, path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--at is seconds|is not committed in .*it has the rounds 1 to 11"):
        write_svg(Replay(path), tmp_path / "f.svg", at, Look())
    assert not (tmp_path / "f.svg").exists()


@pytest.mark.parametrize("text", ["", "80", "80x", "x24", "19x24", "80x4", "301x40", "99999x1", "80X24"])
def test_sizes_are_bounded(text: str) -> None:
    with pytest.raises(UserError, match="from 20x5 to 300x100"):
        size_of(text)
    assert size_of("80x24") == (80, 24)


def test_a_cast_plays_all_of_the_recording(path: Path, tmp_path: Path) -> None:
    count = write_cast(Replay(path), tmp_path / "r.cast", 20.0, Look((80, 24)))
    header, *lines = (tmp_path / "r.cast").read_text(encoding="utf-8").splitlines()
    assert json.loads(header) == {"version": 2, "width": 80, "height": 24, "title": "p2pfl, events.jsonl x20"}
    assert len(lines) == count > 10
    times = [json.loads(line)[0] for line in lines]
    assert times == sorted(times)
    assert times[0] == 0.0
    first, last = played(lines, 24)[0], played(lines, 24)[-1]
    assert len(first) == 24
    assert "connecting" not in first[0]
    assert "r11/" in last[0]
    assert any("x20" in row for row in last)


def test_a_cast_is_bounded(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_CAST_BYTES", 2000)
    with pytest.raises(UserError, match="larger than"):
        write_cast(Replay(path), tmp_path / "r.cast", 64.0, Look((80, 24)))
    assert not (tmp_path / "r.cast").exists()


@pytest.mark.parametrize(
    ("write", "seconds", "speed", "said"),
    [
        (write_film, 610.0, 1.0, "120 are the most: give --speed 11 or more$"),
        (write_film, 610.0, 11.0, "it is a folder"),
        (write_film, 4000.0, 64.0, "120 are the most: leave out --speed$"),
        (write_film, 4000.0, None, "it is a folder"),
        (write_cast, 610.0, 1.0, "1200 are the most: give --speed 3 or more$"),
        (write_cast, 610.0, 3.0, "it is a folder"),
        (write_cast, 19_100.0, 1.0, "1200 are the most: give --speed 64$"),
    ],
)
def test_a_speed_with_too_many_frames_is_refused_with_advice_that_is_not(
    write: Any, seconds: float, speed: float | None, said: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Replay, "seconds", seconds)
    with pytest.raises(UserError, match=said):
        write(Replay(path), path.parent, speed, Look())


def test_a_film_has_all_of_the_recording_and_is_bounded(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "f.svg"
    path = path.rename(tmp_path / "\x1b.jsonl")
    count = write_film(Replay(path), film, 32.0, Look((80, 24)))
    text = text_of_svg(film)
    assert sum(f"\nr{number}/" in text for number in range(1, 12)) > 5
    assert "attic-nuc (vfjx7l6) lost" in text
    assert f"animation:{(count + 8) / 2:g}s" in text, "the last frame stands for four seconds"
    monkeypatch.setattr(frames, "MAX_FILM_BYTES", 2000)
    with pytest.raises(UserError, match="larger than"):
        write_film(Replay(path), film, 64.0, Look((80, 24)))


def test_a_place_that_cannot_be_written_is_said_before_anything_is_drawn(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="in a folder that does not exist"):
        write_svg(Replay(path), tmp_path / "no" / "f.svg", None, Look())
    with pytest.raises(UserError, match="it is a folder"):
        write_cast(Replay(path), tmp_path, None, Look())


def test_the_command_needs_no_terminal(path: Path, tmp_path: Path) -> None:
    words = ["tui", "--replay", str(path), "--svg", "f.svg", "--at", "r2", "--size", "60x15"]
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "f.svg is written\n"
    assert done.stderr == ""
    assert "r2/" in text_of_svg(tmp_path / "f.svg")
