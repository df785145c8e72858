"""Fault rates: what goes wrong in a simulated federation, how often, and until when.

All faults stay within what the protocol promises to survive. A restored backup is promised only to be
*noticed*, so it is injected where it must be noticed before it does harm. Disks are lost one at a time, and
only while the roster tolerates it (`p2pfl.sim.limits`).
"""

from __future__ import annotations

import msgspec


class Faults(msgspec.Struct, frozen=True):
    """Rates of faults. All faults stop at `until`, and the run must complete after that.

    A rate `..._every` is the mean number of seconds between two such faults; 0 means never.
    """

    until: float = 60.0
    """Virtual seconds until the faults stop."""

    # --- processes ------------------------------------------------------------------------------------------
    crash_every: float = 0.0
    """A random process crashes."""
    blackout_every: float = 0.0
    """All devices lose power, and start again within moments."""
    down: float = 4.0
    """Mean seconds that a crashed node stays down, and that a node which left stays away."""
    power_cuts: float = 0.5
    """Share of crashes that are power cuts: what the device had not flushed is lost."""
    between: float = 0.0
    """Probability of a crash, or of a suspension, between any two effects."""
    freeze_every: float = 0.0
    """A process is suspended (SIGSTOP) for up to `freeze` seconds; messages to it wait."""
    freeze: float = 60.0
    sleep_every: float = 0.0
    """A device sleeps for up to `freeze` seconds. When it wakes its links are gone, and its clock stood still
    or jumped."""
    leave_every: float = 0.0
    """A node leaves politely and comes back later."""
    turn_away_every: float = 0.0
    """A node is started with `--new-run` while the others go on. Later its operator starts it with an empty
    data directory instead."""
    away: float = 20.0
    """Mean seconds between those two starts."""
    ban_every: float = 0.0
    """An operator bans a device, and lifts the ban later. Its operator starts the device again and again."""
    ban: float = 20.0
    """Mean seconds until a ban is lifted."""
    hang: float = 0.0
    """Probability that a worker's job hangs until its time limit, and then fails."""
    fail: float = 0.0
    """Probability that a worker's job fails at once."""
    slow_node: float = 0.0
    """Probability that one node trains several times slower than the others."""
    late: float = 0.0
    """Probability that one node starts late and joins a running run."""

    # --- network --------------------------------------------------------------------------------------------
    cut_every: float = 0.0
    """The nodes are cut in two sides; all notice at once."""
    message_loss_every: float = 0.0
    """Messages from some nodes to some others are lost, one way or both; only the silence tells it."""
    cut: float = 5.0
    """Mean seconds that a cut or a loss of messages lasts."""
    drop: float = 0.0
    """Probability that a message is lost."""
    duplicate: float = 0.0
    """Probability that a message arrives twice."""
    delay: float = 0.02
    """Mean delay of a message in seconds; messages overtake each other."""
    slow: float = 0.0
    """Probability that a message takes a hundred times longer."""
    pull: float = 0.1
    """Maximum seconds that a blob takes to arrive."""
    forge_every: float = 0.0
    """A node gets, in another node's name, a next commit that no member has accepted, with copied
    acceptances."""

    garbled: float = 0.0
    """Probability that the record in an ACCEPT is another one on its way, as a faulty program would make it:
    with a blob its run does not have, with an evaluation of other metrics, or with an update that counts more
    examples than its member has."""

    block_every: float = 0.0
    """Transfers are blocked between two devices, or from all to one, or from one to all."""
    block: float = 15.0
    """Mean seconds that a block lasts."""
    unpullable: float = 0.0
    """Probability that no device can pull from one of them, as long as there are faults."""
    invalid_result: float = 0.0
    """Probability that an update does not fit the run's schema, or that an average is not finite."""
    allowance: float = 0.0
    """Seconds that a round may take beyond the bound of `ProgressChecker`. Where transfers are blocked very
    often, one candidate after another may be hit, and each of them needs 24 s to find that out."""

    # --- disks ----------------------------------------------------------------------------------------------
    lose_disk_every: float = 0.0
    """A node loses its data directory, unless another loss is not made up for yet."""
    restore_disk_every: float = 0.0
    """A node's data directory is replaced by an old backup, of an earlier start or of this one. The operator
    starts the node again and again; the backup must be noticed and refused each time."""

    other_data_every: float = 0.0
    """A device is started with data whose classes come in another order, until its operator mends that."""

    damage_every: float = 0.0
    """The last model on a device's disk is corrupted, where another device has it whole."""

    # --- aimed, right after a PREPARE, PROMISE, COLLECT, ACCEPT, ACCEPTED or COMMIT was sent ---------------
    aimed: float = 0.0
    """Probability of a fault at the sender or the receiver, right after such a message was sent."""
    aimed_value: float = 0.0
    """The same for a PROMISE that names a value: the rarest of these messages, on which adoption depends."""
    aimed_first: float = 0.0
    """Probability that the proposer crashes after an ACCEPTED, alone or with all others, before it has
    accepted its own value."""


CALM = Faults(until=0.0)
"""Nothing goes wrong."""

NETWORK = Faults(cut_every=10.0, message_loss_every=15.0, drop=0.03, duplicate=0.05, slow=0.03, pull=1.0)
"""Only the network fails."""

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
"""Messages arrive, but models do not."""

WORKERS = Faults(
    hang=0.03, fail=0.05, invalid_result=0.03, slow_node=0.5, turn_away_every=40.0, crash_every=30.0
)
"""Workers hang and fail, and members turn away."""

BANS = Faults(
    ban_every=8.0,
    crash_every=12.0,
    cut_every=15.0,
    message_loss_every=20.0,
    freeze_every=80.0,
    between=0.0005,
    aimed=0.02,
    drop=0.02,
    duplicate=0.03,
    slow=0.02,
    pull=0.5,
    down=3.0,
)
"""Members are banned, and come back, while devices and the network fail."""

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
"""Only the devices fail."""

HEAVY = Faults(
    crash_every=10.0,
    between=0.001,
    freeze_every=80.0,
    sleep_every=80.0,
    leave_every=100.0,
    ban_every=100.0,
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
    garbled=0.02,
    other_data_every=120.0,
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
    "bans": BANS,
    "heavy": HEAVY,
    "lossy": LOSSY,
}
"""By name, for the command line."""
