"""What goes wrong in a simulated federation, how often, and until when."""

from __future__ import annotations

import msgspec


class Faults(msgspec.Struct, frozen=True):
    """Rates of faults. All of them stop at `until`, after which the run has to complete."""

    until: float = 60.0
    """Virtual seconds during which faults happen."""
    crash_every: float = 0.0
    """Mean seconds between crashes of a random node; 0 is never."""
    aimed: float = 0.0
    """Probability of a crash right after a PREPARE, PROMISE, COLLECT, ACCEPT, ACCEPTED or COMMIT was sent."""
    between: float = 0.0
    """Probability of a crash between any two effects."""
    down: float = 4.0
    """Mean seconds a crashed node stays down."""
    cut_every: float = 0.0
    """Mean seconds between cuts that part the nodes in two."""
    cut: float = 5.0
    """Mean seconds a cut lasts."""
    deafen_every: float = 0.0
    """Mean seconds between one-way cuts: one node's messages to another are lost, the link stays up."""
    lose_disk: bool = False
    """Whether one node, once, loses its data directory: more than one at a time is not survived."""
    drop: float = 0.0
    """Probability that a message is lost."""
    duplicate: float = 0.0
    """Probability that a message arrives twice."""
    delay: float = 0.02
    """Mean seconds a message takes; messages overtake each other."""
    slow: float = 0.0
    """Probability that a message takes a hundred times as long."""


CALM = Faults(until=0.0)
"""Nothing goes wrong."""

HEAVY = Faults(
    until=60.0,
    crash_every=8.0,
    aimed=0.04,
    between=0.001,
    cut_every=10.0,
    deafen_every=20.0,
    drop=0.02,
    duplicate=0.05,
    slow=0.02,
)
"""Everything goes wrong, all the time."""

LOSSY = msgspec.structs.replace(HEAVY, lose_disk=True)
"""The same, and one disk is lost."""

PROFILES = {"none": CALM, "heavy": HEAVY, "lossy": LOSSY}
"""By name, for the command line."""
