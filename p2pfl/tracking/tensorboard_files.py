"""Writes measured values as event files of TensorBoard, with its own encoder and without torch.

Each run of each node has a folder, so nodes may share the folder that TensorBoard shows.
"""

from __future__ import annotations

import os
import socket
import time as clock
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from p2pfl.errors import UserError
from p2pfl.tracking.measures import Measurement
from p2pfl.tracking.tracker import TrackedRun


class TensorBoardTracker:
    """Writes one event file for each start of the node."""

    def __init__(self, folder: Path) -> None:
        """Make *folder*.

        Raises:
            UserError: it cannot be made.
        """
        self._folder = folder
        self._file: Path | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The folder {folder} of --track cannot be made: {error.strerror}. Name another one."
            ) from error

    def begin(self, run: TrackedRun, /) -> None:
        """Begin a file for *run*."""
        from tensorboard.compat.proto.event_pb2 import Event

        folder = self._folder / run.label
        folder.mkdir(exist_ok=True)
        now = clock.time()
        self._file = (
            folder
            / f"events.out.tfevents.{now:010.0f}.{socket.gethostname()}.{os.getpid()}.{clock.monotonic_ns()}"
        )
        self._append([Event(wall_time=now, file_version="brain.Event:2").SerializeToString()])

    def write(self, time: float, values: Sequence[Measurement], /) -> None:
        """Append one scalar for each of *values*."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._append(
            [
                Event(
                    wall_time=time,
                    step=one.round,
                    summary=Summary(value=[Summary.Value(tag=one.tag, simple_value=one.value)]),
                ).SerializeToString()
                for one in values
            ]
        )

    def close(self) -> None:
        """Do nothing: the file is open only while it is written."""

    def _append(self, encoded: Sequence[bytes]) -> None:
        """Append *encoded* events, in one write: a reader never sees half of one."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        assert self._file is not None
        buffer = BytesIO()
        writer = RecordWriter(buffer)
        for event in encoded:
            writer.write(event)
        with self._file.open("ab") as file:
            file.write(buffer.getvalue())
