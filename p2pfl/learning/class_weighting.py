"""Finds out whether the classes of a training can have weights, and gives them (`--class-weights`)."""

from __future__ import annotations

from p2pfl.errors import TaskError
from p2pfl.learning.batches import Batches
from p2pfl.learning.objective import Classification, Objective
from p2pfl.learning.own.objective import UserObjective


def check_weighted(objective: Objective) -> Classification | UserObjective:
    """Return *objective*, which is to have class weights.

    Raises:
        TaskError: the task has no classes, or a loss of its own.
    """
    if not isinstance(objective, Classification | UserObjective):
        raise TaskError(
            "--class-weights needs a task with classes and cross-entropy as its loss; start without it."
        )
    return objective


def weighted(objective: Objective, part: Batches) -> Objective:
    """Return *objective* with the class weights of *part*.

    Raises:
        TaskError: they are not known.
    """
    if part.labels is None:
        raise TaskError("--class-weights needs the classes of the examples, and these data do not tell them.")
    return check_weighted(objective).weighted(part.labels)
