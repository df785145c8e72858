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
import traceback
from pathlib import Path
from types import TracebackType

import p2pfl

PACKAGE = str(Path(p2pfl.__file__).parent)
"""The folder of this package."""


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
    sys.excepthook = _print
    runpy.run_path(path, run_name="__main__")


def _print(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Print the traceback of *error* without the frames of p2pfl and of `runpy`, which say nothing."""
    shown = traceback.TracebackException.from_exception(error)
    own = [one for one in shown.stack if not one.filename.startswith((PACKAGE, "<frozen runpy>"))]
    shown.stack = traceback.StackSummary.from_list(own or shown.stack)
    sys.stderr.write("".join(shown.format()))
    sys.stderr.flush()


def _end_with(descriptor: int) -> None:
    """Wait for the end of the input on *descriptor*, then end this process and all that it has started."""
    while os.read(descriptor, 4096):
        pass
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
