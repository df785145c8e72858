"""What a peer's programs tell the bench: marks, a JSON line each, in one file all of them append to.

Runs under the peer's Python in its own virtual environment, so it uses the standard library only.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path


def mark(path: str | Path, what: str) -> None:
    """Append that *what* happened now in this process.

    The clock is the machine's monotonic one, which all processes share; a line is written in one piece.
    """
    line = json.dumps({"what": what, "at": time.monotonic(), "pid": os.getpid()}) + "\n"
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(line)
