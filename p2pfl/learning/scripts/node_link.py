"""The trainer's side of the connection to its node: a blocking socket in the thread of the user's loop.

There is no second thread, so the loop of the user meets nothing unexpected: commands wait in the socket while
the loop trains, and `NodeLink.is_stopped` looks for a `StopJob` among them.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections import deque
from pathlib import Path

from p2pfl.errors import NetworkError, P2pflError, WorkerError
from p2pfl.learning import commands
from p2pfl.learning.commands import Answer, Command
from p2pfl.learning.scripts import frames
from p2pfl.learning.scripts.frames import (
    FRAMES_VERSION,
    TrainerEndpoint,
    TrainerHello,
    TrainerRefused,
    TrainerRunOver,
    TrainerWelcome,
)

WELCOME_SECONDS = 60.0
"""Time limit for the connection: the node may be busy with its start."""


class NodeGoneError(NetworkError):
    """The connection to the node ended without a reason, or there is no node."""


class NodeLink:
    """The connection of a trainer to the node at *endpoint*."""

    def __init__(self, endpoint: TrainerEndpoint) -> None:
        """Connect, and wait until the node welcomes this trainer.

        Raises:
            NetworkError: there is no node, or it refuses this trainer.
        """
        self._waiting: deque[Command | TrainerRunOver] = deque()
        """Frames that were received and not taken yet."""
        self._stopped: set[int] = set()
        """Ids of the stopped trainings."""
        self._ended: P2pflError | None = None
        """Why nothing more comes from the node; None while the connection is open."""
        self.task = ""
        """The name of the node's task."""
        try:
            self._socket = _connect(endpoint)
        except OSError as error:
            raise NodeGoneError(
                f"The node cannot be reached ({error.strerror or error}): it has ended. Start it again."
            ) from error
        try:
            self._socket.settimeout(WELCOME_SECONDS)
            self._send(TrainerHello(endpoint.token, FRAMES_VERSION, _name()))
            while not self.task:
                self._check_open()
                self._receive()
            self._socket.settimeout(None)
        except OSError as error:
            self.close()
            raise _gone() from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection; the node keeps the unfinished jobs for the next trainer."""
        self._socket.close()

    def take(self) -> Command | TrainerRunOver:
        """Wait for the next command or the end of the run, and return it.

        Raises:
            NetworkError: the node has ended, or gave this trainer up.
            WorkerError: the node sent an invalid frame.
        """
        while not self._waiting:
            self._check_open()
            self._receive()
        return self._waiting.popleft()

    def is_stopped(self, job: int) -> bool:
        """Return whether the node has stopped the training *job*; this does not wait."""
        while self._ended is None and select.select([self._socket], [], [], 0)[0]:
            self._receive()
        return job in self._stopped

    def send(self, answer: Answer) -> None:
        """Send *answer*.

        Raises:
            NetworkError: the node has ended, or gave this trainer up.
        """
        try:
            self._send(answer)
        except OSError as error:
            self._drain()
            raise self._ended or _gone() from error

    def _check_open(self) -> None:
        if self._ended is not None:
            raise self._ended

    def _send(self, frame: frames.FromTrainer) -> None:
        self._socket.sendall(frames.encode(frame))

    def _drain(self) -> None:
        """Read what the node sent before it closed the connection: it may say why."""
        while self._ended is None:
            self._receive()

    def _receive(self) -> None:
        """Wait for one frame and sort it in."""
        try:
            length = int.from_bytes(self._read(commands.LENGTH_BYTES), "big")
            commands.check_length(length)
            frame = frames.decode_from_node(self._read(length))
        except TimeoutError:
            self._ended = NetworkError("The node does not answer; end it and start it again.")
            return
        except (OSError, EOFError):
            self._ended = _gone()
            return
        match frame:
            case TrainerWelcome():
                self.task = frame.task
            case TrainerRefused():
                self._ended = NetworkError(f"This loop trains no more: {frame.reason}.")
            case commands.StopJob():
                self._stopped.add(frame.id)
            case commands.RunAggregation():
                raise WorkerError("The node sent an aggregation, which is not a trainer's job.")
            case _:
                self._waiting.append(frame)

    def _read(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            piece = self._socket.recv(count - len(parts))
            if not piece:
                raise EOFError
            parts += piece
        return bytes(parts)


def _connect(endpoint: TrainerEndpoint) -> socket.socket:
    if not endpoint.path:
        return socket.create_connection(("127.0.0.1", endpoint.port), WELCOME_SECONDS)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(WELCOME_SECONDS)
        connection.connect(endpoint.path)
    except BaseException:
        connection.close()
        raise
    return connection


def _gone() -> NodeGoneError:
    return NodeGoneError("The node has ended, so this loop trains no more.")


def _name() -> str:
    """Return what this trainer is, for people."""
    where = "a notebook" if "ipykernel" in sys.modules else Path(sys.argv[0]).name[:100] or "a program"
    return f"{where} (process {os.getpid()})"
