"""What goes wrong in a simulated federation, how often, and until when.

Everything here stays within what the design promises to survive. What it promises only to *notice* - a disk
restored from a backup - happens where it must be noticed before it can do harm, and disks are lost one at a
time, while the roster tolerates it (`p2pfl.sim.limits`).
"""

from __future__ import annotations

import msgspec


class Faults(msgspec.Struct, frozen=True):
    """Rates of faults. All of them stop at `until`, after which the run has to complete.

    A rate `..._every` is the mean of seconds between two such faults; 0 is never.
    """

    until: float = 60.0
    """Virtual seconds during which faults happen."""

    # --- processes ------------------------------------------------------------------------------------------
    crash_every: float = 0.0
    """A random process ends at once."""
    blackout_every: float = 0.0
    """The power of all devices fails, and all start again within moments."""
    down: float = 4.0
    """Mean seconds a crashed node stays down, and one that left stays away."""
    power_cuts: float = 0.5
    """Share of crashes that take the whole device down, with what it had not flushed to disk."""
    between: float = 0.0
    """Probability of a crash, or a freeze, between any two effects."""
    freeze_every: float = 0.0
    """A process is suspended (SIGSTOP) for up to `freeze` seconds; what is sent to it waits."""
    freeze: float = 60.0
    sleep_every: float = 0.0
    """A device sleeps for up to `freeze` seconds: its links are gone when it wakes, and its clock stood still
    or jumped."""
    leave_every: float = 0.0
    """A node leaves politely; it comes back later."""
    turn_away_every: float = 0.0
    """A node is started with `--new-run` while the others go on; later its operator thinks better of it and
    starts it with an empty data directory."""
    away: float = 20.0
    """Mean seconds in between."""
    hang: float = 0.0
    """Probability that a worker's job hangs until its limit, and fails then."""
    fail: float = 0.0
    """Probability that a worker's job fails at once."""
    slow_node: float = 0.0
    """Probability that one node trains several times slower than the others."""
    late: float = 0.0
    """Probability that one node starts late and joins a run under way."""

    # --- network --------------------------------------------------------------------------------------------
    cut_every: float = 0.0
    """Nodes are parted in two, noticed at once."""
    message_loss_every: float = 0.0
    """What some nodes send to some others is lost, one way or both, unnoticed until the silence is."""
    cut: float = 5.0
    """Mean seconds either of them lasts."""
    drop: float = 0.0
    """Probability that a message is lost."""
    duplicate: float = 0.0
    """Probability that a message arrives twice."""
    delay: float = 0.02
    """Mean seconds a message takes; messages overtake each other."""
    slow: float = 0.0
    """Probability that a message takes a hundred times as long."""
    pull: float = 0.1
    """Most seconds a blob takes to come."""
    forge_every: float = 0.0
    """A node is sent, in another's name, a next commit that nobody has accepted, with copied acceptances."""

    block_every: float = 0.0
    """No bulk connection can be made between two devices, or from anybody to one, or from one to anybody."""
    block: float = 15.0
    """Mean seconds that lasts."""
    unpullable: float = 0.0
    """Probability that nobody can pull from one device, as long as there are faults."""
    invalid_result: float = 0.0
    """Probability that an update never fits the run's schema, or an average is not finite."""
    allowance: float = 0.0
    """Seconds a round may take beyond the bound of the judge of progress: where bulk is blocked very often,
    one candidate after another may be hit, and each of them needs 24 s to find it out."""

    # --- disks ----------------------------------------------------------------------------------------------
    lose_disk_every: float = 0.0
    """A node loses its data directory, if no other one's loss is still to be made up for."""
    restore_disk_every: float = 0.0
    """The same, and the operator puts an old backup in its place, of an earlier start or of this one, and
    starts it again and again: to be noticed and refused each time."""

    damage_every: float = 0.0
    """The bytes of a device's last model are wrong on its disk, where another has it whole."""

    # --- aimed, right after a PREPARE, PROMISE, COLLECT, ACCEPT, ACCEPTED or COMMIT was sent ---------------
    aimed: float = 0.0
    """Probability of a fault right after such a message was sent: to its sender or its receiver."""
    aimed_value: float = 0.0
    """The same for a PROMISE that names a value, the rarest of them and the one all depends on."""
    aimed_first: float = 0.0
    """Probability that an ACCEPTED is followed by a crash of its proposer, alone or with everybody, where
    that one has not accepted its own value yet."""


CALM = Faults(until=0.0)
"""Nothing goes wrong."""

NETWORK = Faults(cut_every=10.0, message_loss_every=15.0, drop=0.03, duplicate=0.05, slow=0.03, pull=1.0)
"""Every device is well, and the network is not."""

BULK = Faults(
    block_every=6.0,
    block=20.0,
    unpullable=0.5,
    invalid_result=0.05,
    allowance=48.0,
    damage_every=10.0,
    crash_every=20.0,
    pull=0.5,
)
"""Messages come through, and models do not."""

WORKERS = Faults(
    hang=0.03, fail=0.05, invalid_result=0.03, slow_node=0.5, turn_away_every=40.0, crash_every=30.0
)
"""Workers hang and fail, and members turn away."""

CRASHES = Faults(
    crash_every=8.0,
    blackout_every=100.0,
    between=0.002,
    freeze_every=60.0,
    sleep_every=60.0,
    aimed=0.04,
    aimed_value=0.2,
    aimed_first=0.05,
)
"""The network is well, and the devices are not."""

HEAVY = Faults(
    crash_every=10.0,
    between=0.001,
    freeze_every=80.0,
    sleep_every=80.0,
    leave_every=100.0,
    turn_away_every=150.0,
    hang=0.002,
    fail=0.005,
    slow_node=0.2,
    late=0.2,
    cut_every=12.0,
    message_loss_every=20.0,
    drop=0.02,
    duplicate=0.05,
    slow=0.02,
    pull=0.5,
    blackout_every=200.0,
    block_every=30.0,
    unpullable=0.1,
    invalid_result=0.01,
    forge_every=40.0,
    lose_disk_every=60.0,
    restore_disk_every=120.0,
    damage_every=40.0,
    aimed=0.04,
    aimed_value=0.15,
    aimed_first=0.2,
)
"""Everything goes wrong, all the time."""

LOSSY = msgspec.structs.replace(HEAVY, lose_disk_every=15.0, restore_disk_every=30.0, damage_every=15.0)
"""The same, and disks are lost as often as it can be borne."""

PROFILES = {
    "none": CALM,
    "network": NETWORK,
    "bulk": BULK,
    "workers": WORKERS,
    "crashes": CRASHES,
    "heavy": HEAVY,
    "lossy": LOSSY,
}
"""By name, for the command line."""
