"""Lets the measured processes start as those of an installed package do: with compiled sources.

pip compiles what it installs, and so the other programs of the benches are compiled. A checkout is compiled by
its first run, but not where `PYTHONDONTWRITEBYTECODE` is set, as in many containers: there every process would
compile the same two hundred modules anew.
"""

from __future__ import annotations

import compileall
import os

from tests.support.source import ROOT

SOURCES = ("p2pfl", "tui", "tests")


def use_bytecode() -> None:
    """Compile the sources of the checkout that have changed, for all processes started from now on."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for folder in SOURCES:
        compileall.compile_dir(ROOT / folder, quiet=2)
