from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from p2pfl.errors import NetworkError, WorkerError
from p2pfl.learning import commands
from p2pfl.learning.scripts import frames, node_link
from p2pfl.learning.scripts.frames import TrainerEndpoint, TrainerHello, TrainerRefused, TrainerWelcome
from p2pfl.learning.scripts.node_link import NodeGoneError, NodeLink
from p2pfl.work import AggregationJob
from tests.support.core import ballot
from tests.support.trainers import SPEC, training

Speak = Callable[[socket.socket], None]


@contextmanager
def node_that(speak: Speak) -> Iterator[TrainerEndpoint]:
    """Listen on a port, and let *speak* answer the first connection in a thread; it is closed then."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                speak(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield TrainerEndpoint("token", port=listening.getsockname()[1])
        thread.join(30)
        assert not thread.is_alive()


def hear(connection: socket.socket) -> frames.FromTrainer:
    with connection.makefile("rb") as stream:
        body = stream.read(int.from_bytes(stream.read(4), "big"))
    return frames.decode_from_trainer(body)


def say(connection: socket.socket, *messages: frames.FromNode) -> None:
    connection.sendall(b"".join(map(frames.encode, messages)))


def test_a_trainer_introduces_itself_and_takes_commands_in_order() -> None:
    heard: list[frames.FromTrainer] = []
    jobs = [commands.RunTraining(number, training(), "blobs", "new") for number in (1, 2)]

    def speak(connection: socket.socket) -> None:
        heard.append(hear(connection))
        say(connection, TrainerWelcome("train"), jobs[0], commands.StopJob(2), jobs[1])
        heard.append(hear(connection))

    with node_that(speak) as endpoint:
        link = NodeLink(endpoint)
        assert link.task == "train"
        assert [link.take(), link.take()] == jobs
        assert link.is_stopped(2)
        assert not link.is_stopped(1)
        link.send(commands.JobStopped(2))
        link.close()
    hello = heard[0]
    assert isinstance(hello, TrainerHello)
    assert (hello.token, hello.version) == ("token", frames.FRAMES_VERSION)
    assert "process" in hello.what
    assert heard[1] == commands.JobStopped(2)


def test_a_node_that_is_gone_is_told_apart_from_one_that_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(NodeGoneError, match="cannot be reached"):
        NodeLink(TrainerEndpoint("token", port=port))
    with pytest.raises(NodeGoneError, match="cannot be reached"):
        NodeLink(TrainerEndpoint("token", "/no/such/socket"))
    with (
        node_that(lambda connection: say(connection, TrainerRefused("it is full"))) as endpoint,
        pytest.raises(NetworkError, match="trains no more: it is full") as refused,
    ):
        NodeLink(endpoint)
    assert not isinstance(refused.value, NodeGoneError)


def test_a_node_that_ends_during_a_loop_is_gone() -> None:
    with node_that(lambda connection: say(connection, TrainerWelcome("train"))) as endpoint:
        link = NodeLink(endpoint)
        with pytest.raises(NodeGoneError, match="has ended"):
            link.take()
        with pytest.raises(NodeGoneError, match="has ended"):
            link.take()
        link.close()


def test_what_the_node_said_last_is_the_error_of_a_later_answer() -> None:
    last = TrainerRefused("another loop has begun")
    with node_that(lambda connection: say(connection, TrainerWelcome("train"), last)) as endpoint:
        link = NodeLink(endpoint)

    def answer() -> None:
        while True:  # the first answers may still find a place in a buffer
            link.send(commands.JobStopped(1))

    with pytest.raises(NetworkError, match="another loop has begun"):
        answer()
    link.close()


def test_a_silent_node_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_link, "WELCOME_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = TrainerEndpoint("token", port=listening.getsockname()[1])
        with pytest.raises(NetworkError, match="does not answer"):
            NodeLink(endpoint)


def test_a_node_that_breaks_the_rules_is_reported() -> None:
    job = AggregationJob("run", 1, ballot(1, "ada"), SPEC, "m", ())
    wrong = commands.RunAggregation(1, job, "blobs", "new")
    with node_that(lambda connection: say(connection, TrainerWelcome("t"), wrong)) as endpoint:
        link = NodeLink(endpoint)
        with pytest.raises(WorkerError, match="not a trainer's job"):
            link.take()
        link.close()
