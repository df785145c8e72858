"""Signals are taken as in a terminal, wherever the tests are started: `nohup` and a shell's `&` ignore some.

A program started by a process that ignores a signal ignores it as well, and a node under `nohup` is meant to.
"""

from __future__ import annotations

import signal


def _end_politely(number: int, frame: object) -> None:
    raise KeyboardInterrupt


for name in ("SIGHUP", "SIGINT"):
    number = getattr(signal, name, None)  # Windows has no SIGHUP
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, _end_politely)
