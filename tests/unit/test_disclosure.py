"""Peers learn where a device failed, and nothing of its data."""

from __future__ import annotations

import pytest

from p2pfl.disclosure import PRIVATE_REASON, told_to_peers
from p2pfl.spec import FileTask, TableTask, TaskSpec
from tests.support.records import SPEC

NOT_FINITE = "its loss or a weight is not finite"
FILE, TABLE = FileTask("mine"), TableTask("ill", "linear")


@pytest.mark.parametrize(
    ("task", "reason", "told"),
    [
        (SPEC.task, "The data of 'mnist' are missing.", "The data of 'mnist' are missing."),
        (
            FILE,
            "my_task.py, line 12, in data(): ValueError: 'Jane Doe' is no number",
            "my_task.py, line 12, in data(): ValueError",
        ),
        (
            FILE,
            "train.py, line 7: torch.OutOfMemoryError: 3 rows",
            "train.py, line 7: torch.OutOfMemoryError",
        ),
        (FILE, "mine: Training diverged: the loss became nan.", f"Training diverged: {NOT_FINITE}"),
        (
            FILE,
            "train.py, line 9: TaskError: Training diverged: 'jane' has a number that is not finite.",
            f"train.py, line 9: Training diverged: {NOT_FINITE}",
        ),
        (FILE, "mine.py: model() returned 'Jane Doe'", PRIVATE_REASON),
        (TABLE, "The column 'name' holds text ('Jane Doe').", PRIVATE_REASON),
    ],
)
def test_peers_are_told_the_place_of_a_failure_and_no_text(task: TaskSpec, reason: str, told: str) -> None:
    assert told_to_peers(task, reason) == told
