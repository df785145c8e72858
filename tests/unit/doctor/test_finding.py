from __future__ import annotations

import pytest

from p2pfl.doctor.finding import Finding, size_text


def test_a_finding_is_a_line_and_its_advice_another_one() -> None:
    assert str(Finding("ok", "all is well")) == "✓ ok    all is well"
    assert str(Finding("FAIL", "it is full", "make room")) == "✗ FAIL  it is full\n        → make room"


@pytest.mark.parametrize(
    ("count", "text"),
    [(500, "0 kB"), (64_000, "64 kB"), (5e6, "5 MB"), (999e6, "999 MB"), (77.6e9, "77.6 GB")],
)
def test_sizes_are_for_people(count: float, text: str) -> None:
    assert size_text(count) == text
