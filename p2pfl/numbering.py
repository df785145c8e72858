"""Maps positions in the chain of records to numbers of training rounds.

Protocol, journal and event stream number records: 1, 2, 3, without a gap. People number training rounds, up
to the number that a run is to have. The two numbers differ after a closing evaluation, which is a record
without training, and in a run that continues another one. All numbers shown to people come from here.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import assert_never

from p2pfl import events


class Numbering:
    """Maps the records of one run to training rounds."""

    def __init__(self) -> None:
        self.run = ""
        self._from: list[int] = []
        """Records at which the difference changes, in order."""
        self._differences: list[int] = []
        """Record number minus training round, from each of those records on."""

    def note(self, index: int, trained: int) -> None:
        """Record that *trained* training rounds lie up to and including record *index*."""
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
        """Return the training round of record *index*, or of the last training record before it.

        Every record that is not known yet counts as a training round.
        """
        if not self._from:
            return index
        return max(0, index - self._differences[max(0, bisect_right(self._from, index) - 1)])

    def take(self, event: events.AnyEvent) -> int | None:
        """Process the next event of a node; return the training round it is about, or None."""
        match event:
            case events.RunJoined():
                if event.run != self.run:
                    self.run, self._from, self._differences = event.run, [], []
                if event.trained is not None:
                    self.note(event.round, event.trained)
                return self.of(event.round)
            case events.Committed():
                if event.run == self.run or not self.run:
                    self.note(event.round, event.trained)
                return event.trained
            case events.PeerStatus():
                return self.of(event.round) if event.run == self.run else None
            case events.ProgressMade():
                return self.of(event.round) if event.what == "train" else None
            case (
                events.QuorumLost()
                | events.QuorumBack()
                | events.Resumed()
                | events.RosterChanged()
                | events.EvaluationFinished()
                | events.TrainingStarted()
                | events.TrainingFinished()
                | events.UpdateReused()
                | events.MembersSelected()
                | events.ElectionStarted()
                | events.Elected()
                | events.UpdateCounted()
                | events.UpdateRefused()
                | events.Proposed()
                | events.RecordAccepted()
                | events.SteppedDown()
            ):
                return self.of(event.round)
            case (
                events.Notice()
                | events.Commanded()
                | events.OptionsIgnored()
                | events.PeerRefused()
                | events.Measured()
                | events.PeerDeviceInfo()
                | events.AddressStates()
                | events.Started()
                | events.CertificateChanged()
                | events.WorkerReady()
                | events.WorkerFailed()
                | events.DataShown()
                | events.Waiting()
                | events.Ended()
                | events.PeerLinked()
                | events.PeerLost()
                | events.PeerLeaving()
                | events.MemberExcluded()
                | events.AddressFailed()
                | events.RunExtended()
                | events.CaughtUp()
                | events.ControlRequested()
                | events.RunEnded()
            ):
                return None
            case _:
                assert_never(event)
