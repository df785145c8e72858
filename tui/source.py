"""The sources of events: a running node, or a recording of one."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import msgspec

from p2pfl import events
from p2pfl.demo.control import DemoReport
from p2pfl.errors import UserError
from p2pfl.events import Published
from p2pfl.observe.connection import Connected, Connection, Item
from p2pfl.runtime.observing.follow import parse_line
from p2pfl.wire.observing import CommandName, CommandResult, ObserverWelcome
from tui.symbols import MarkKind

SLOWEST, FASTEST = 0.25, 64.0
"""Limits of the speed of a replay."""

MAX_RECORDING_BYTES = 256 * 1024 * 1024
"""Maximum size of a recording, larger than `--events` writes."""


class Live:
    """A running node, over the network or on this machine."""

    def __init__(
        self,
        *,
        address: str | None = None,
        data_dir: Path | None = None,
        node: str | None = None,
        certs: Path | None = None,
        name: str | None = None,
    ) -> None:
        """Find the node, see `find_target`.

        Raises:
            UserError: there is no such node, or it cannot be observed.
        """
        # Not needed for a recording, and these import TLS and certificates.
        from p2pfl.observe.follow import Follower
        from p2pfl.observe.target import find_target

        target = find_target(address, data_dir=data_dir, node=node, certs=certs, name=name)
        self.target = target
        self.text = target.text
        """The node's address, for messages."""
        self._follower = Follower(target)

    async def run(
        self,
        deliver: Callable[[Item], None],
        on_connection: Callable[[Connection], None],
        reset: Callable[[], None],
    ) -> None:
        """Follow the node until it ends, see `Follower.run`."""
        await self._follower.run(deliver, on_connection, reset)

    def retry_now(self) -> None:
        """Try to connect at once."""
        self._follower.retry_now()

    async def order(self, what: CommandName) -> CommandResult:
        """Send the node a command and return its answer.

        Raises:
            NetworkError: there is no connection, or it broke before the answer.
        """
        return await self._follower.order(what)


Recorded = Published | DemoReport
"""A line of a recording: an event of the node, or what a demo reported."""


_GOES_ON = (events.RunExtended, events.RunJoined)
"""After these events a finished run is open again, or there is another one."""


class Mark(NamedTuple):
    """Something that happened in a recording, for its scrub bar."""

    position: float
    """From 0 to 1."""
    kind: MarkKind
    time: float


def mark_of(item: Recorded) -> MarkKind | None:
    """Return which mark *item* gets on the scrub bar; None for none."""
    if isinstance(item, DemoReport):
        return "loss" if isinstance(item.what, events.Notice) and item.what.level == "warning" else None
    match item.event:
        case events.PeerLost():
            return "loss"
        case events.QuorumLost() | events.ControlRequested(what="pause"):
            return "pause"
        case events.PeerLinked() | events.RunJoined():
            return "join"
        case events.Committed(kind="train", is_late=False):
            return "commit"
        case events.Elected():
            return "election"
        case _:
            return None


class Replay:
    """A replay of a file that `p2pfl node --events FILE` wrote, at any speed."""

    def __init__(self, path: Path, *, speed: float = 1.0) -> None:
        """Read the recording.

        Raises:
            UserError: the file cannot be read, or holds no event.
        """
        self.path = path
        self.damaged = 0
        """Lines that are no events."""
        self.items = self._read(path)
        self.speed = min(FASTEST, max(SLOWEST, speed))
        self.paused = False
        # Events keep their order, even if the node's clock was set back meanwhile.
        self._times = list(accumulate((item.time for item in self.items), max))
        self.marks: list[Mark] = []
        """What happened, in the order of time."""
        self.rounds: dict[int, float] = {}
        """When each training round was committed, by its number."""
        is_over = False
        for time, item in zip(self._times, self.items, strict=True):
            event = item.event if isinstance(item, Published) else None
            is_over = (is_over or isinstance(event, events.RunEnded)) and not isinstance(event, _GOES_ON)
            kind = mark_of(item)
            if kind is not None and not (is_over and isinstance(event, events.PeerLost)):  # all go then
                self.marks.append(Mark(self.position_of(time), kind, time))
            if kind == "commit" and isinstance(event, events.Committed):
                self.rounds.setdefault(event.trained, time)
        self._shown = 0
        """Events that were delivered."""
        self._at = self._times[0]
        """The current time within the recording."""
        self._played_at: float | None = None
        self._needs_reset = True

    def _read(self, path: Path) -> list[Recorded]:
        try:
            if path.stat().st_size > MAX_RECORDING_BYTES:
                raise UserError(f"{path} is larger than {MAX_RECORDING_BYTES >> 20} MiB: too long to replay")
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise UserError(f"the recording {path} cannot be read: {error.strerror}") from error
        items: list[Recorded] = []
        for line in lines:
            try:
                items.append(_parse(line))
            except msgspec.DecodeError:
                self.damaged += 1
        if not items:
            raise UserError(
                f"{path} holds no events: give a file that `p2pfl node --events FILE` or "
                "`p2pfl demo --record FILE` wrote"
            )
        return items

    @property
    def text(self) -> str:
        """The file's name, the position and the speed."""
        held = "held" if self.paused else f"x{self.speed:g}"
        return f"replay {self.path.name} {100 * self.position:.0f}% {held}"

    @property
    def position(self) -> float:
        """The position, from 0 to 1."""
        return self.position_of(self._at)

    @property
    def begin(self) -> float:
        """The time of the first event, in seconds since the epoch."""
        return self._times[0]

    @property
    def seconds(self) -> float:
        """The length of the recording."""
        return self._times[-1] - self._times[0]

    def position_of(self, time: float) -> float:
        """Return the position of *time*, from 0 to 1."""
        return (time - self.begin) / self.seconds if self.seconds else 1.0

    async def run(
        self,
        deliver: Callable[[Item], None],
        on_connection: Callable[[Connection], None],
        reset: Callable[[], None],
    ) -> None:
        """Report a connection, which a recording always has; `play` delivers the events."""
        del deliver, reset
        on_connection(Connected(ObserverWelcome(1, "", "", "", "", "", "observer", (), "", resumed=False)))
        await asyncio.Event().wait()

    @property
    def now(self) -> float:
        """The current time within the recording."""
        return self._at

    def play(self, clock: float, deliver: Callable[[Recorded], None], reset: Callable[[], None]) -> None:
        """Deliver the events that have become due since the last call, by *clock*."""
        before, self._played_at = self._played_at, clock
        if before is not None and not self.paused:
            self._at = min(self._times[-1], self._at + (clock - before) * self.speed)
        if self._needs_reset:
            self._needs_reset, self._shown = False, 0
            reset()
        until = bisect_right(self._times, self._at)
        for item in self.items[self._shown : until]:
            deliver(item)
        self._shown = max(self._shown, until)

    def change_speed(self, factor: float) -> None:
        """Multiply the speed by *factor*."""
        self.speed = min(FASTEST, max(SLOWEST, self.speed * factor))

    def seek(self, position: float) -> None:
        """Go to *position*, from 0 to 1."""
        self.go_to(self.begin + position * self.seconds)

    def go_to(self, time: float) -> None:
        """Go to *time*, in seconds since the epoch, or to the end of the recording that is nearer to it."""
        target = min(self._times[-1], max(self.begin, time))
        self._needs_reset = self._needs_reset or target < self._at
        self._at = target

    def step_round(self, step: int) -> None:
        """Go to the end of the next round, *step* 1, or of the one before, -1; without one to an end."""
        times = list(self.rounds.values())
        if step > 0:
            self.go_to(next((time for time in times if time > self._at), self._times[-1]))
        else:
            self.go_to(next((time for time in reversed(times) if time < self._at), self.begin))


def _parse(line: bytes) -> Recorded:
    """Return the event, or the report of a demo, on one *line*.

    Raises:
        msgspec.DecodeError: it is neither.
    """
    try:
        return parse_line(line)
    except msgspec.DecodeError:
        return _reports.decode(line)


_reports = msgspec.json.Decoder(DemoReport)
