"""The frames between a node and a trainer: a program of the user whose own loop does the training.

The trainer connects to a local socket of the node and introduces itself with `TrainerHello`. From then on it
gets the commands that a worker gets, and gives the same answers (`p2pfl.learning.commands`), except that
averaging is always the worker's. This module knows no torch and no event loop, since both sides import it.

The socket is a Unix socket in the data directory that only its user can open, or a port of the loopback
interface where there are no Unix sockets or the path is too long for one. The token is checked either way: it
proves that the trainer can read a file of the node's user, or was started by the node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from p2pfl.errors import WorkerError
from p2pfl.learning import commands
from p2pfl.learning.commands import Answer, Command

FRAMES_VERSION = 1
"""Version of these frames. Node and trainer may have different versions of p2pfl installed."""

ENVIRONMENT_VARIABLE = "P2PFL_TRAINER"
"""Environment variable with the `TrainerEndpoint` of the node that started this process, as JSON."""

TOKEN_VARIABLE = "P2PFL_TRAINER_TOKEN"  # noqa: S105 - its name
"""Environment variable with the token that the program which started this node will show."""

ENDPOINT_FILE = "trainer.json"
"""File with the `TrainerEndpoint` in the data directory of a node that waits for a trainer."""

SOCKET_FILE = "trainer.sock"
"""Name of the Unix socket in the data directory."""

MAX_SOCKET_PATH = 100
"""Maximum length in bytes of the path of a Unix socket; systems allow 104 or 108 with the final zero."""

NO_METRICS_GIVEN = "the script measures nothing: give p2pfl.rounds a function metrics="
"""Why an evaluation fails."""

ShortText = Annotated[str, Meta(max_length=200)]


class TrainerEndpoint(msgspec.Struct, frozen=True):
    """How a trainer connects to its node."""

    token: str
    path: str = ""
    """The Unix socket; empty: `port` of the loopback interface."""
    port: int = 0

    def to_text(self) -> str:
        """Return it as JSON."""
        return msgspec.json.encode(self).decode()

    @staticmethod
    def from_text(text: str | bytes) -> TrainerEndpoint:
        """Return the endpoint in *text*, which `to_text` made.

        Raises:
            WorkerError: it is no endpoint.
        """
        try:
            return msgspec.json.decode(text, type=TrainerEndpoint)
        except msgspec.DecodeError as error:
            raise WorkerError(f"The address of the node cannot be read: {error}.") from error


def read_endpoint(data_dir: Path) -> TrainerEndpoint | None:
    """Return the endpoint of the node on *data_dir*; None if no node waits for a trainer there."""
    try:
        return TrainerEndpoint.from_text((data_dir / ENDPOINT_FILE).read_bytes())
    except (OSError, WorkerError):
        return None


class _Frame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of the frames below."""


class TrainerHello(_Frame, frozen=True, tag="hello"):
    """The first frame of a trainer."""

    token: ShortText
    version: int
    what: ShortText
    """What the trainer is, for people: "train.py, process 4711"."""


class TrainerWelcome(_Frame, frozen=True, tag="welcome"):
    """The node accepts the trainer."""

    task: ShortText
    """The name of the task of this node."""


class TrainerRefused(_Frame, frozen=True, tag="refused"):
    """The node refuses the trainer or gives it up, and closes the connection."""

    reason: str


class TrainerRunOver(_Frame, frozen=True, tag="over"):
    """The run has ended; nothing is trained any more."""

    path: str
    """The file of the final model; empty if it is not here."""


FromTrainer = TrainerHello | Answer
"""All frames of a trainer."""

FromNode = TrainerWelcome | TrainerRefused | TrainerRunOver | Command
"""All frames of a node."""

_encoder = msgspec.msgpack.Encoder()
_trainer_decoder: msgspec.msgpack.Decoder[FromTrainer] = msgspec.msgpack.Decoder(FromTrainer)
_node_decoder: msgspec.msgpack.Decoder[FromNode] = msgspec.msgpack.Decoder(FromNode)


def encode(frame: FromTrainer | FromNode) -> bytes:
    """Return *frame* with its length before it.

    Raises:
        WorkerError: it is longer than `commands.MAX_FRAME_BYTES`.
    """
    body = _encoder.encode(frame)
    commands.check_length(len(body))
    return len(body).to_bytes(commands.LENGTH_BYTES, "big") + body


def decode_from_trainer(body: bytes) -> FromTrainer:
    """Return the frame in *body*, which a trainer sent.

    Raises:
        WorkerError: it is no valid frame.
    """
    try:
        return _trainer_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise WorkerError(f"The trainer sent an invalid frame: {error}.") from error


def decode_from_node(body: bytes) -> FromNode:
    """Return the frame in *body*, which a node sent.

    Raises:
        WorkerError: it is no valid frame.
    """
    try:
        return _node_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise WorkerError(f"The node sent an invalid frame: {error}.") from error
