"""Chooses the run that a user names by the beginning of its id. It imports little, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfl.errors import UserError

if TYPE_CHECKING:
    from p2pfl.store.reader import RunRow

SHORT = 7
"""Number of characters of a digest or run id that are shown: enough to tell a few apart."""


def choose_run(rows: Sequence[RunRow], wanted: str | None, data_dir: Path) -> RunRow:
    """Return the newest run of *rows*, those in *data_dir*, or the one whose id begins with *wanted*.

    Raises:
        UserError: there is none, or several ids begin so; the message lists the ids.
    """
    if not rows:
        raise UserError(
            f"the node with data directory {data_dir} has not been in a run yet; start it with its peers"
        )
    if wanted is None:
        return rows[-1]
    found = [row for row in rows if row.run.startswith(wanted.lower())]
    if len(found) != 1:
        known = ", ".join(row.run[: max(SHORT, len(wanted) + 1)] for row in rows)
        count = "no run" if not found else f"{len(found)} runs"
        raise UserError(f"{count} here has an id that begins with {wanted!r}; the runs are {known}")
    return found[0]
