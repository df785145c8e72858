"""The task `fashion-mnist`: grey images of clothes in the file format of MNIST.

Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms"
(2017).
"""

from __future__ import annotations

from p2pfl.learning.catalogue import FASHION_MNIST
from p2pfl.learning.task import CatalogueTask
from p2pfl.learning.tasks.mnist import IdxImages

TASK: CatalogueTask = IdxImages(
    FASHION_MNIST,
    classes=(
        "T-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    first_labels=(9, 0, 0, 3, 0, 2, 7, 2, 5, 5),
)
