"""What peers are told of a failure on a device with private data.

The text of an exception may quote the data, for example the cell that is no number. It is for the device's
own screen and log. Peers get the place in the user's code and the kind of the exception.
"""

from __future__ import annotations

import re

from p2pfl.spec import BuiltinTask, TaskSpec

PRIVATE_REASON = "its own data or task do not allow it; that device says why"

DIVERGED = "Training diverged"
"""Part of the reason of a training whose loss is not finite."""

_DIVERGED_REASON = "Training diverged: its loss or a weight is not finite"

_PLACE = re.compile(r"([\w.\- ]{1,80}, line \d{1,9}(?:, in [\w.]{1,60}\(\))?: )[A-Za-z_][\w.]{0,60}")
"""The beginning of the reason of an exception in a user's code, without its text."""


def told_to_peers(task: TaskSpec, reason: str) -> str:
    """Return what peers are told of a failure with *task*, whose *reason* this device's user sees."""
    if isinstance(task, BuiltinTask):
        return reason
    found = _PLACE.match(reason)
    if DIVERGED in reason:
        return f"{found[1]}{_DIVERGED_REASON}" if found else _DIVERGED_REASON
    return found[0] if found else PRIVATE_REASON
