"""Checks the versions of Python and the packages."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata

from p2pfl import __version__
from p2pfl.doctor.finding import Finding

PACKAGES = ("torch", "numpy", "safetensors", "cryptography", "msgspec", "blake3", "psutil", "platformdirs")
"""Packages that a node and its worker need. They are not imported for the check: torch takes seconds."""


def check_software(packages: Sequence[str] = PACKAGES) -> Finding:
    """Check the versions of Python and the packages."""
    missing = []
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        return Finding(
            "FAIL",
            f"not installed: {', '.join(missing)}",
            "install p2pfl again, as its README says",
            ("# in the folder of the clone, in its virtual environment:", "pip install -e ."),
        )
    return Finding(
        "ok", f"p2pfl {__version__}, Python {platform.python_version()}, torch {versions.get('torch', '-')}"
    )
