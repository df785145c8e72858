"""MNIST: handwritten digits (LeCun, Cortes and Burges, 1998)."""

from __future__ import annotations

from p2pfl.learning.catalogue import MNIST
from p2pfl.learning.task import Task
from p2pfl.learning.tasks.idx_images import IdxImages

TASK: Task = IdxImages(
    MNIST,
    classes=tuple("0123456789"),
    mean=0.1307,
    deviation=0.3081,
    first_labels=(5, 0, 4, 1, 9, 2, 1, 3, 1, 4),
)
