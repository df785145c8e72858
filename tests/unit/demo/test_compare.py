"""The demo's comparison: made once, whoever asks for it first, and told as it comes."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from p2pfl.cards import Measures
from p2pfl.demo import compare
from p2pfl.demo.compare import Comparison, ComparisonTask
from p2pfl.demo.control import LocalOnlyModel
from p2pfl.demo.results import JournalSummary
from p2pfl.demo.screen import Screen
from p2pfl.learning.data import DataPlaces
from p2pfl.store.reader import RunRow
from tests.support.meshes import until
from tests.support.records import AGREEMENT, SPEC, digest

RESULT = Comparison(0.9, (LocalOnlyModel("ada", 10, 0.5),), 4)


class Control:
    def __init__(self) -> None:
        self.reported: list[LocalOnlyModel] = []

    def report(self, what: LocalOnlyModel) -> None:
        self.reported.append(what)


class Stage:
    """A comparison whose training takes until `may_end`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs = 0
        self.may_end = asyncio.Event()
        self.control = Control()
        screen = Screen(Console(file=io.StringIO()), is_live=False)
        self.it = ComparisonTask(DataPlaces(), screen, self.control)  # type: ignore[arg-type]
        monkeypatch.setattr(compare, "compare", self._compare)

    async def _compare(
        self,
        journal: JournalSummary,
        places: DataPlaces,
        on_progress: Callable[[str, float], None],
        on_model: Callable[[LocalOnlyModel], None],
    ) -> Comparison:
        self.runs += 1
        on_progress("ada", 0.5)
        on_model(RESULT.local_only[0])
        await self.may_end.wait()
        return RESULT


def journal() -> JournalSummary:
    row = RunRow(digest("run"), SPEC, AGREEMENT, 3, 2, 2, ended=True, closed=False)
    return JournalSummary(row, (), {"ada": 0}, Path("model"), "")


async def test_what_was_begun_is_not_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.it.begin(journal())
    stage.it.begin(journal())
    stage.may_end.set()
    assert await stage.it.result(journal()) == RESULT
    assert stage.runs == 1


async def test_each_model_trained_alone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.may_end.set()
    await stage.it.result(journal())
    assert stage.control.reported == list(RESULT.local_only)


async def test_closing_gives_up_what_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    await stage.it.close()
    result = asyncio.create_task(stage.it.result(journal()))
    await until(lambda: stage.runs > 0)
    await stage.it.close()
    with pytest.raises(asyncio.CancelledError):
        await result


def test_the_comparison_names_the_best_lone_model_and_the_mean() -> None:
    lone = (
        LocalOnlyModel("ada", 300, 0.8),
        LocalOnlyModel("ben", 400, 0.9),
        LocalOnlyModel("cleo", 100, 0.4),
    )
    lines = Comparison(0.95, lone, 20).lines()
    assert "0.9500   5.0 points above the best lone one" in lines[0]
    assert "0.9000   ben: 400 samples, 20 epochs" in lines[1]
    assert "mean of 3 trained alone" in lines[2]
    assert "0.7000" in lines[2]
    assert "not above the best lone one" in Comparison(0.9, lone, 20).lines()[0]


def test_the_comparison_is_by_the_runs_own_metric_in_its_direction() -> None:
    lone = (LocalOnlyModel("ada", 300, 12.5), LocalOnlyModel("ben", 400, 20.0))
    less = Measures("mse", ("mse",), "mse", "min")
    lines = Comparison(10.0, lone, 20, less).lines()
    assert "10.0000   mse 2.5000 below the best lone one" in lines[0]
    assert "12.5000   ada: 300 samples" in lines[1]
    assert "no better than that" in Comparison(13.0, lone, 20, less).lines()[0]
    more = msgspec.structs.replace(less, direction="max")
    assert "mse 1.0000 above the best lone one" in Comparison(21.0, lone, 20, more).lines()[0]


def test_a_lone_model_that_is_not_finite_is_not_the_best() -> None:
    models = (LocalOnlyModel("a", 10, 0.8), LocalOnlyModel("b", 10, 1e298))
    lines = Comparison(0.9, models, 5).lines()
    assert lines[0].endswith("10.0 points above the best lone one")
    assert "a: 10 samples" in lines[1]
    assert Comparison(0.9, models[1:], 5).lines()[0].endswith("and no lone one has a finite value")
