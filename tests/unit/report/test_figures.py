from __future__ import annotations

import io
import sys
from typing import Any

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from p2pfl.errors import UserError
from p2pfl.events import RoundRow
from p2pfl.report import figures
from p2pfl.report.figures import MAX_LEGEND, Change, Curve, changes_of, confusion_png, curves_png, history_png
from p2pfl.report.plot import BLUE, ORANGE
from tests.support.recordings import HOSTILE, finished, rows_of

ROWS = [row for row in rows_of(finished()) if row.kind == "train"]


def pixels(content: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def has(content: bytes, colour: str) -> bool:
    """Whether a pixel of the picture is exactly of *colour*."""
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return bool((pixels(content) == wanted).all(axis=2).any())


def watched(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return the list to which each figure is appended before it becomes a file."""
    drawn: list[Figure] = []
    real = figures._png

    def keep(figure: Figure) -> bytes:
        drawn.append(figure)
        return real(figure)

    monkeypatch.setattr(figures, "_png", keep)
    return drawn


def row(number: int, *members: str, **more: Any) -> RoundRow:
    fields = {"round": number, "trained": number, "members": members, "left_out": (), **more}
    return msgspec.structs.replace(ROWS[0], **fields)


def test_a_figure_has_the_primary_metric_and_the_loss() -> None:
    content = history_png(ROWS)
    assert has(content, BLUE)
    assert has(content, ORANGE)
    height = pixels(content).shape[0]
    only = history_png([msgspec.structs.replace(row, primary="loss") for row in ROWS])
    assert not has(only, ORANGE)
    assert pixels(only).shape[0] < height


def test_the_best_model_trained_alone_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = watched(monkeypatch)
    history_png(ROWS, alone=[0.5, 0.625])
    labels = [line.get_label() for line in drawn[0].axes[0].lines]
    assert "best alone: 0.6250" in labels
    history_png(ROWS)
    assert not any("alone" in str(line.get_label()) for line in drawn[1].axes[0].lines)
    history_png([msgspec.structs.replace(row, direction="min") for row in ROWS], alone=[0.5, 0.625])
    assert "best alone: 0.5000" in [line.get_label() for line in drawn[2].axes[0].lines]


def test_joins_and_losses_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = watched(monkeypatch)
    history_png([row(1, "ada", "ben"), row(2, "ada", "ben", "cleo"), row(3, "ada", "cleo")])
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["+ cleo", "✕ ben"]


def test_a_member_is_lost_once_and_joins_once() -> None:
    rows = [
        row(1, "ada", "ben"),
        row(2, "ada", "ben", left_out=(("ben", "silent"),)),
        row(3, "ada", "ben", left_out=(("ben", "silent"),)),
        row(4, "ada", "cleo"),
        row(5, "ada", "cleo", "ben"),
        row(6, "ada", "cleo"),
    ]
    assert changes_of(rows) == [
        Change(2, "ben", "lost", "silent"),
        Change(4, "cleo", "joined", ""),
        Change(5, "ben", "joined", ""),
        Change(6, "ben", "lost", ""),
    ]


def test_no_round_and_odd_values_are_drawn() -> None:
    assert pixels(history_png([])).size
    assert pixels(history_png([row(1, "ada", metrics={"accuracy": 1e300, "loss": float("inf")})])).size


def test_hostile_names_and_formulas_are_text() -> None:
    rows = [row(1, "ada"), row(2, "ada", HOSTILE, "$x_{1$", "\\frac")]
    assert pixels(history_png(rows)).size
    assert pixels(confusion_png(((1, 0), (2, 3)), (HOSTILE, "$x_{1$"), "$\\a$")).size


def test_a_confusion_matrix_is_dark_where_examples_are(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = watched(monkeypatch)
    confusion_png(((3, 1), (0, 0)), ("cat", "dog"), "pets")
    axes = drawn[0].axes[0]
    assert np.asarray(axes.images[0].get_array()).tolist() == [[0.75, 0.25], [0, 0]]
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "0"]
    confusion_png([[0] * 50 for _ in range(50)], [str(number) for number in range(50)], "many")
    assert not drawn[1].axes[0].texts


def test_without_matplotlib_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'p2pfl-lan\[plots\]'"):
        history_png(ROWS)


def test_curves_have_their_means_and_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = watched(monkeypatch)
    curves = [Curve("fedavg", [(1, 0.5, 0.1), (2, 0.6, 0.0)]), Curve("median", [(1, 0.4, 0.0)])]
    assert pixels(curves_png(curves, "accuracy", "compare")).size
    axes = drawn[0].axes[0]
    assert [np.asarray(line.get_ydata()).tolist() for line in axes.lines] == [[0.5, 0.6], [0.4]]
    assert [line.get_label() for line in axes.lines] == ["fedavg", "median"]
    assert len(axes.collections) == 1, "a band only where there is a deviation"
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("accuracy", "round")


def test_many_odd_and_no_curves_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = watched(monkeypatch)
    many = [Curve(f"$x_{{{number}$", [(1, 0.1, 0.0), (2, 1e300, float("inf"))]) for number in range(40)]
    assert pixels(curves_png(many, "loss", "$\\a$")).size
    legend = drawn[0].axes[0].get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == MAX_LEGEND
    assert pixels(curves_png([], "loss", "")).size
    assert pixels(curves_png([Curve("none", [])], "loss", "")).size
