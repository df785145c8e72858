"""What happened to the members of a run, and when: for the marks on the charts.

Marks come from live events and, for the time before the observer was there, from the decided rounds. The same
loss or return is marked once, whichever source tells of it first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from p2pfl.events import Committed, RoundRow
from p2pfl.messages import ABSENT

MAX_MARKS = 500
"""Marks kept of a run, the latest ones."""

NO_QUORUM = "no quorum"
"""Name of the pause of a run that lost its quorum."""

FIRST_ATTEMPT = 1
"""The attempt of a round's first election (`p2pfl.core.options`)."""

RunMarkKind = Literal["loss", "join", "election", "pause", "resume"]
"""A member was lost or left, a member joined or returned, another aggregator was elected after the first one
failed, the run was paused or lost its quorum, and it went on."""


class RunMark(NamedTuple):
    """One thing that happened."""

    kind: RunMarkKind
    round: int
    """Number of the training round that was open then; of a pause that of the round before it."""
    name: str
    """The member, or the reason of a pause; may be empty."""
    time: float | None
    """By the node's clock; None if only the decided round tells of it."""


class Marks:
    """The marks of one run, in order; bounded."""

    def __init__(self, members: tuple[str, ...] = ()) -> None:
        self._marks: dict[tuple[RunMarkKind, int, str], RunMark] = {}
        self._members = frozenset(members)
        """After the last decided round, as far as it is known; empty if it is not."""
        self._away: dict[str, bool] = {}
        """Lost members; whether the observed node noticed it, so that only a new link ends it."""
        self._last = 0
        """Number of the last decided round."""

    def __iter__(self) -> Iterator[RunMark]:
        return iter(self._marks.values())

    def __len__(self) -> int:
        return len(self._marks)

    def has_member(self, name: str) -> bool:
        """Whether *name* is a member after the last decided round."""
        return name in self._members

    def note(self, kind: RunMarkKind, number: int, name: str, time: float | None) -> None:
        """Add a mark in round *number*, unless it is known."""
        key = kind, number, name
        if key not in self._marks:
            self._marks[key] = RunMark(kind, number, name, time)
            if len(self._marks) > MAX_MARKS:
                del self._marks[next(iter(self._marks))]

    def lost(self, name: str, number: int, time: float | None) -> None:
        """Note that the link to the member *name* broke in round *number*."""
        if name not in self._away:
            self.note("loss", number, name, time)
        self._away[name] = True

    def linked(self, name: str, number: int, time: float | None) -> None:
        """Note that *name* is linked; that is news only of a member that was lost."""
        if self._away.pop(name, None) is not None:
            self.note("join", number, name, time)

    def forget_links(self) -> None:
        """Take it that nobody is lost: the observed node itself was restarted."""
        self._away.clear()

    def decided(self, one: Committed | RoundRow, number: int, time: float | None) -> None:
        """Note what the decided round *number* tells; earlier rounds are known already."""
        if isinstance(one, Committed):
            if number >= self._last:  # if only a row has told of this round, the next roster is news
                self._take_members(one.members, number, time)
        elif number > self._last:  # its members are its voters, whom the round before decided
            self._take_members(one.members, self._last or number, None)
        if number <= self._last:
            return
        self._last = number
        for name, reason in one.left_out:
            if reason in ABSENT and name in self._members and name not in self._away:
                self._away[name] = False
                self.note("loss", number, name, time)
        for update in one.updates:
            if self._away.get(update.name) is False:
                self.linked(update.name, number, time)
        if one.attempt > FIRST_ATTEMPT:
            self.note("election", number, one.aggregator, time)
        if one.then == "pause":
            self.note("pause", number, "", time)

    def _take_members(self, names: tuple[str, ...], number: int, time: float | None) -> None:
        """Note how the roster that round *number* decided differs from the one before."""
        members = frozenset(names)
        if self._members:
            for name in sorted(members - self._members):
                self._away.pop(name, None)
                self.note("join", number, name, time)
            for name in sorted(self._members - members - self._away.keys()):
                self.note("loss", number, name, time)
        self._members = members
        for name in self._away.keys() - members:
            del self._away[name]
