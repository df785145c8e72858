"""Run a terminal UI that crashes, to test that the terminal is restored."""

from __future__ import annotations

import sys
from typing import Any

from tui import __main__, app


def fail(self: Any) -> None:
    raise RuntimeError("a fault made for a test")


app.Tui.tick = fail  # type: ignore[method-assign]  # the fault is put into a real program

if __name__ == "__main__":
    sys.exit(__main__.main())
