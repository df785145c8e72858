"""Screens are the same everywhere: the same zone, no colours taken away, nothing that moves by itself."""

import os
import time

import pytest

os.environ["TEXTUAL_ANIMATIONS"] = "none"  # looked at when Textual is imported


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
