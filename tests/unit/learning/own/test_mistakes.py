from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from p2pfl.learning.own import templates
from p2pfl.learning.own.mistakes import line_of, misspelled, normalised

SCORES = torch.tensor([[1.0, 2.0, -3.0], [0.5, 0.0, 4.0]])


def file_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def los(o, t): pass", "line 1: los is not used; is loss meant?"),
        ("x = 1\nmetric = len", "line 2: metric is not used; is metrics meant?"),
        ("def optimiser(p, lr): pass", "line 1: optimiser is not used; is optimizer meant?"),
        ("clases: list[str] = []", "line 1: clases is not used; is classes meant?"),
        ("class Trainer: pass\nprimery = ('loss', 'min')", "line 2: primery is not used; is primary meant?"),
    ],
)
def test_a_name_that_nearly_is_one_of_a_task_is_named_with_its_line(
    tmp_path: Path, text: str, found: str
) -> None:
    assert misspelled(file_of(tmp_path, text)) == (f"mine.py, {found}",)


@pytest.mark.parametrize(
    "text",
    [
        "def loss(o, t): pass\ndef los(o, t): pass",
        "from elsewhere import los, metric\nimport optimiser",
        "_los = 1\nlearning_rate = 0.1\nclass Net: pass\ndef loss_of_one(): pass\nx.los = 2",
        "no python (",
    ],
    ids=["both", "imported", "other names", "no text"],
)
def test_other_names_are_no_mistakes(tmp_path: Path, text: str) -> None:
    assert misspelled(file_of(tmp_path, text)) == ()


def test_the_templates_have_no_misspelled_names() -> None:
    for file in Path(templates.__file__).parent.glob("*.py"):
        assert misspelled(file) == ()


def test_a_definition_is_found_at_the_top_or_as_an_argument(tmp_path: Path) -> None:
    file = file_of(tmp_path, "import p2pfl\nprimary = 1\ntask = p2pfl.Task(\n    model=2,\n    data=3,\n)")
    assert [line_of(file, name) for name in ("primary", "data", "none")] == [2, 5, None]


@pytest.mark.parametrize(
    ("outputs", "word"),
    [
        (SCORES.softmax(1), "its last layer is a softmax"),
        (SCORES.log_softmax(1), "is a log-softmax"),
        (torch.rand(2, 3, 4, 4).softmax(1), "its last layer is a softmax"),
        (SCORES, ""),
        (SCORES.softmax(1) * 1.01, ""),
        (SCORES.sigmoid(), ""),
        (torch.ones(4, 1), ""),
        (-SCORES.abs(), ""),
        (torch.full((2, 3), float("nan")), ""),
    ],
)
def test_outputs_of_a_softmax_are_recognised(outputs: Tensor, word: str) -> None:
    found = normalised(outputs)
    assert word in found
    assert bool(found) == bool(word)
