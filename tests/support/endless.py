"""A process in place of that of a simulation, which ignores the end of its input."""

from __future__ import annotations

import sys
import threading

from p2pfl.learning.simulation.process import RunBegan, answer_line

if __name__ == "__main__":
    sys.stdout.buffer.write(answer_line(RunBegan("accuracy", "max")))
    sys.stdout.buffer.flush()
    threading.Event().wait()
