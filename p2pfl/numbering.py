"""Maps places in the chain of records to the numbers of training rounds.

Protocol, journal and event stream number records: 1, 2, 3, without a gap. People number the rounds of
training, up to the number a run is to have. The two differ once a run went on after its closing evaluation,
which is a record without training, and in a run that continues another one. Every number that is shown to
people comes from here.
"""

from __future__ import annotations

from bisect import bisect_right

from p2pfl import events


class Numbering:
    """Knows, of one run, which training round each record belongs to."""

    def __init__(self) -> None:
        self.run = ""
        self._from: list[int] = []
        """Records from which on the difference is another one, in order."""
        self._differences: list[int] = []
        """How much lower the training round's number is, from that record on."""

    def note(self, index: int, trained: int) -> None:
        """Take note that *trained* rounds of training lie up to and including record *index*."""
        at = bisect_right(self._from, index)
        difference = index - trained
        if at and self._differences[at - 1] == difference:
            return
        if at and self._from[at - 1] == index:
            at -= 1
            self._differences[at] = difference
        else:
            self._from.insert(at, index)
            self._differences.insert(at, difference)
        if at + 1 < len(self._from) and self._differences[at + 1] == difference:
            del self._from[at + 1], self._differences[at + 1]

    def of(self, index: int) -> int:
        """Return the number of the training round that record *index* is, or that the last one before it was.

        Of records nobody knows of yet, each is taken for a round of training.
        """
        if not self._from:
            return index
        return max(0, index - self._differences[max(0, bisect_right(self._from, index) - 1)])

    def take(self, event: events.AnyEvent) -> int | None:
        """Take the next event of a node; return the training round it is about, None if it is about none."""
        match event:
            case events.RunJoined():
                if event.run != self.run:
                    self.run, self._from, self._differences = event.run, [], []
                if event.trained is not None:
                    self.note(event.round, event.trained)
            case events.Committed():
                if event.run == self.run or not self.run:
                    self.note(event.round, event.trained)
                return event.trained
            case events.PeerStatus() if event.run != self.run:
                return None
            case events.ProgressMade() if event.what != "train":
                return None
            case _:
                pass
        index = getattr(event, "round", None)
        return None if index is None else self.of(index)
