"""Simulations in a process of their own, for programs that must not import torch.

`SimulationProcess` starts `python -m p2pfl.learning.simulation.main` when the first run begins, and again
after that process has ended. An order goes there as one line of JSON, and the rounds come back as lines.
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


class RunOrder(msgspec.Struct, frozen=True):
    """What the process is to do."""

    run: str
    """The run, as text."""
    is_check: bool = False
    """Only find out whether it is possible: read and divide the data, build the model."""


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
_decode_order = msgspec.json.Decoder(RunOrder).decode


def answer_line(answer: RunAnswer) -> bytes:
    """Return *answer* as a line."""
    return _encode(answer) + b"\n"


def order_line(run: SimulatedRun, *, is_check: bool = False) -> bytes:
    """Return the line that orders *run*, or only its check."""
    return _encode(RunOrder(run.to_text(), is_check)) + b"\n"


def order_of(line: bytes) -> tuple[SimulatedRun, bool]:
    """Return the run that *line* orders, and whether it is only to be checked."""
    order = _decode_order(line)
    return SimulatedRun.from_text(order.run), order.is_check


class SimulationProcess:
    """Runs simulations one after another; `close` it at the end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._is_busy = False
        """Whether it has a run whose end was not read."""

    def run(self, run: SimulatedRun) -> Iterator[RunBegan | RoundDone]:
        """Simulate *run* and yield its rounds; read all of them before the next run.

        Raises:
            UserError: the run is impossible, or the user's code is wrong.
            WorkerError: the process failed or has ended.
        """
        return self._ask(order_line(run))

    def check(self, run: SimulatedRun) -> None:
        """Find out whether *run* is possible with the data of this machine, without training.

        Raises:
            UserError: it is impossible, or the user's code is wrong.
            WorkerError: the process failed or has ended.
        """
        for _ in self._ask(order_line(run, is_check=True)):
            pass

    def _ask(self, order: bytes) -> Iterator[RunBegan | RoundDone]:
        if self._is_busy:  # with a run whose rounds nobody reads any more
            self.close()
        process = self._started()
        self._is_busy = True
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(order)
            process.stdin.flush()
        except OSError as error:
            raise self._ended() from error
        for line in process.stdout:
            answer = _decode(line)
            match answer:
                case RunDone():
                    self._is_busy = False
                    return
                case RunFailed():
                    self._is_busy = False
                    raise (UserError if answer.is_users else WorkerError)(answer.reason)
                case _:
                    yield answer
        raise self._ended()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        self._is_busy = False
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
