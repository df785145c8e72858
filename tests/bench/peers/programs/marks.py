"""Write marks, which tell the bench what happens in the programs: JSON lines in one file that all append to.

It runs in the virtual environment of the program, so it uses the standard library only.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path


def mark(path: str | Path, what: str) -> None:
    """Append that *what* happened now in this process, and the processor time that it has used.

    The clock is the monotonic clock, which all processes share. A line is written with one call.
    """
    found = {"what": what, "at": time.monotonic(), "pid": os.getpid(), "used": time.process_time()}
    line = json.dumps(found) + "\n"
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(line)
