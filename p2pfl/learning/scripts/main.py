"""Runs a script of the user as a child of the node: `python -m p2pfl.learning.scripts.main FILE [ARGS]`.

The script runs as it does with `python FILE ARGS`. In addition it ends with the node, however that ends: the
node holds the other end of this process's standard input, and at its end the whole process group is killed,
loaders of data included. The script itself gets an empty standard input.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from pathlib import Path


def main() -> None:
    """Run the script that the command line names."""
    path, *arguments = sys.argv[1:]
    descriptor = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_end_with, args=(descriptor,), name="node", daemon=True).start()
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).parent))
    runpy.run_path(path, run_name="__main__")


def _end_with(descriptor: int) -> None:
    """Wait for the end of the input on *descriptor*, then end this process and all that it has started."""
    while os.read(descriptor, 4096):
        pass
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
