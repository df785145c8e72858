"""Make the virtual environments of the other programs: `python -m tests.bench.peers.prepare DIR`.

Each program gets its own environment, with exactly the versions below and whatever dependencies they require.
This takes about five minutes and 5 GB. Only the simulations of many clients have torch; elsewhere members use
numpy arrays. The p2pfl on PyPI is licensed under the GPL; it is installed and run here as a program, and
nothing of it becomes part of this project.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "flower": ("flwr==1.42.0",),
    "flower_simulation": ("flwr[simulation]==1.42.0", "torch==2.14.1"),
    "pfl": ("pfl==0.6.0", "torch==2.14.1"),
    "p2pfl_pypi": ("p2pfl[dp]==0.4.4", "pyarrow==17.0.0", "huggingface_hub==0.25.2"),
}
"""Packages by name of the environment.

p2pfl 0.4.4 does not start without its extra `dp`, nor with newer versions of pyarrow (numpy 2) and
huggingface_hub, which its pinned `datasets` allows.
"""


def main() -> None:
    """Make all environments in the folder given on the command line."""
    options = argparse.ArgumentParser(
        prog="python -m tests.bench.peers.prepare", description="Install what the benches compare with."
    )
    options.add_argument("folder", type=Path, metavar="DIR", help="where; outside of the checkout")
    folder = options.parse_args().folder.absolute()
    for name, packages in ENVIRONMENTS.items():
        print(f"{name}: {', '.join(packages)}", flush=True)
        venv.create(folder / name, with_pip=True, clear=True)
        python = python_of(folder, name)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    print(f"Ready. Measure with: python -m tests.bench --peers {folder}")


def python_of(folder: Path, name: str) -> Path:
    """Return the Python of environment *name* in *folder*; end with a sentence if there is none."""
    python = folder / name / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        sys.exit(f"There is no {python}. Run first: python -m tests.bench.peers.prepare {folder}")
    return python


if __name__ == "__main__":
    main()
