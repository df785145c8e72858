"""FedAvg of niid_bench in plain PyTorch, to compare with p2pfl: `python -m tests.bench.results.niid_bench_plain`.

Nothing of p2pfl computes here: one loop over rounds, clients, epochs and batches, with the network in the layout
and the order of layers of the baseline. Only the pictures and their partition are those of the task file.
"""

from __future__ import annotations

import argparse
import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.bench.results import fashion_mnist_lenet

ROUNDS, EPOCHS, BATCH, RATE, MOMENTUM, DECAY = 50, 10, 64, 0.01, 0.9, 1e-5


def network() -> nn.Module:
    """Return the network of the baseline."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def train(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Train a copy of *model* on the examples of a client; return its tensors."""
    copied = copy.deepcopy(model)
    optimizer = torch.optim.SGD(copied.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(targets)), BATCH):
            optimizer.zero_grad()
            loss = functional.cross_entropy(copied(inputs[rows]), targets[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return copied.state_dict()


@torch.no_grad()
def accuracy(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Return the share of *inputs* that *model* classifies as *targets*."""
    return float((model(inputs).argmax(1) == targets).float().mean())


def main() -> None:
    """Train, and print the accuracy of each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--partition", default="three_labels_42", help="attribute of the task file's pictures"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    pictures, test = fashion_mnist_lenet.data()
    owners = torch.tensor(getattr(pictures, options.partition))
    parts = [
        tuple(tensor[owners == one] for tensor in pictures.tensors) for one in range(int(owners.max()) + 1)
    ]
    model, found = network(), []
    for number in range(1, ROUNDS + 1):
        trained = [train(model, *part) for part in parts]
        shares = [len(part[1]) / len(owners) for part in parts]
        mean = {
            name: sum(one[name] * share for one, share in zip(trained, shares, strict=True))
            for name in trained[0]
        }
        model.load_state_dict(mean)
        found.append(accuracy(model, *test.tensors))
        print(f"round {number}: accuracy {found[-1]:.4f}, best {max(found):.4f}", flush=True)
    last = torch.tensor(found[-10:])
    print(f"best {max(found):.4f}, last ten rounds {last.mean():.4f} ± {last.std(correction=0):.4f}")


if __name__ == "__main__":
    main()
