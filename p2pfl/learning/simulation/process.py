"""Simulations in a process of their own, for programs that must not import torch.

`SimulationProcess` starts `python -m p2pfl.learning.simulation.main` when the first run begins, and again
after that process has ended. A run goes there as one line of JSON, and its rounds come back as lines.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

import msgspec

from p2pfl import programs
from p2pfl.errors import UserError, WorkerError
from p2pfl.learning.simulation.simulated import SimulatedRound, SimulatedRun

MODULE = "p2pfl.learning.simulation.main"

CLOSE_SECONDS = 5.0
"""Time for the process to end by itself."""


class RunBegan(msgspec.Struct, frozen=True, tag="began"):
    """The data are read, and the first round begins."""

    primary: str
    """The metric that compares models."""
    direction: Literal["max", "min"]
    """Whether a larger or a smaller value of it is better."""


class RoundDone(msgspec.Struct, frozen=True, tag="round"):
    """A round is over."""

    row: SimulatedRound


class RunDone(msgspec.Struct, frozen=True, tag="done"):
    """The run is over."""


class RunFailed(msgspec.Struct, frozen=True, tag="failed"):
    """The run ended with an error; the process takes the next one."""

    reason: str
    is_users: bool
    """Whether the user can change something about it."""


RunAnswer = RunBegan | RoundDone | RunDone | RunFailed
"""What the process answers, a line each."""

_decode = msgspec.json.Decoder(RunAnswer).decode
_encode = msgspec.json.Encoder().encode


def answer_line(answer: RunAnswer) -> bytes:
    """Return *answer* as a line."""
    return _encode(answer) + b"\n"


class SimulationProcess:
    """Runs simulations one after another; `close` it at the end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, run: SimulatedRun) -> Iterator[RunBegan | RoundDone]:
        """Simulate *run* and yield its rounds; read all of them before the next run.

        Raises:
            UserError: the run is impossible, or the user's code is wrong.
            WorkerError: the process failed or has ended.
        """
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(run.to_text().encode() + b"\n")
            process.stdin.flush()
        except OSError as error:
            raise self._ended() from error
        for line in process.stdout:
            answer = _decode(line)
            match answer:
                case RunDone():
                    return
                case RunFailed():
                    raise (UserError if answer.is_users else WorkerError)(answer.reason)
                case _:
                    yield answer
        raise self._ended()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):  # the process has ended, and what it should read is lost
            process.stdin.close()
        try:
            process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = programs.start(
                MODULE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **programs.detached()
            )
        return self._process

    def _ended(self) -> WorkerError:
        """Return the error that the process has ended, and forget it."""
        process = self._process
        self.close()
        code = process.returncode if process is not None else None
        return WorkerError(
            f"The process of the simulation has ended (exit code {code}), perhaps for lack of memory; use "
            "fewer workers or clients in a round, or a smaller model."
        )
