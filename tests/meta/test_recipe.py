"""The README's recipe for an exported model without p2pfl is run as it stands there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

from p2pfl.learning.data import DataPlaces
from p2pfl.learning.tasks.digits import TASK
from tests.support.exported import export_module
from tests.support.learning import make_spec
from tests.support.records import AGREEMENT
from tests.support.source import ROOT

MAX_LINES = 10


def recipe() -> str:
    """Return the Python block of the section "Use the model" of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## Use the model\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return str(block)


def test_the_recipe_loads_an_exported_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = TASK.build("cnn").eval()
    export_module(tmp_path, module, make_spec(model="cnn"), AGREEMENT)
    script = tmp_path / "recipe.py"
    script.write_text(recipe(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(script))
    x = TASK.load(DataPlaces()).test_x[:20]
    assert torch.equal(found["model"](x), module(x))
    assert found["classes"] == list(AGREEMENT.classes)


def test_the_recipe_is_short_and_needs_no_p2pfl() -> None:
    lines = [line for line in recipe().splitlines() if line.strip()]
    assert len(lines) <= MAX_LINES
    assert "p2pfl" not in recipe()
