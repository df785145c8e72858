from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from p2pfl.learning import catalogue, weights
from p2pfl.learning.models import MODELS, ImageShape

GREY = ImageShape(1, 28, 28)
COLOUR = ImageShape(3, 32, 32)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("2nn", GREY, 199_210),
        ("2nn", COLOUR, 656_810),
        ("2nn", ImageShape(1, 8, 8), 55_210),
        ("cnn", GREY, 1_663_370),
        ("cnn", COLOUR, 2_156_490),
        ("lenet", GREY, 61_706),
        ("lenet", COLOUR, 62_006),
        ("resnet18", GREY, 11_172_810),
        ("resnet18", COLOUR, 11_173_962),
    ],
)
def test_a_model_has_its_parameters_and_gives_a_logit_a_class(
    name: str, shape: ImageShape, parameters: int
) -> None:
    module = MODELS[name](shape, 10)
    assert count(module) == parameters
    assert module(torch.zeros(2, *shape)).shape == (2, 10)


def sizes(module: nn.Module, shape: ImageShape, *names: str) -> list[tuple[int, ...]]:
    """Return what the layers *names* give for one image of *shape*, without the batch."""
    seen: list[tuple[int, ...]] = []
    for name in names:
        module.get_submodule(name).register_forward_hook(
            lambda layer, taken, given: seen.append(tuple(given.shape[1:]))
        )
    module(torch.zeros(2, *shape))
    return seen


@pytest.mark.parametrize(("shape", "side"), [(GREY, 28), (COLOUR, 32)])
def test_the_papers_cnn_keeps_the_size_but_for_its_pooling(shape: ImageShape, side: int) -> None:
    assert sizes(MODELS["cnn"](shape, 10), shape, "conv1", "pool1", "conv2", "pool2") == [
        (32, side, side),
        (32, side // 2, side // 2),
        (64, side // 2, side // 2),
        (64, side // 4, side // 4),
    ]


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_lenet_has_the_sizes_of_its_paper_for_both_sizes_of_image(shape: ImageShape) -> None:
    names = ("conv1", "pool1", "conv2", "pool2", "hidden1", "hidden2")
    assert sizes(MODELS["lenet"](shape, 10), shape, *names) == [
        (6, 28, 28),
        (6, 14, 14),
        (16, 10, 10),
        (16, 5, 5),
        (120,),
        (84,),
    ]


@pytest.mark.parametrize(
    ("shape", "last"), [(GREY, 4), (COLOUR, 4), (ImageShape(2, 64, 64), 2), (ImageShape(4, 224, 224), 7)]
)
def test_resnet18_leaves_its_last_stage_something_to_look_at(shape: ImageShape, last: int) -> None:
    assert sizes(MODELS["resnet18"](shape, 5), shape, "layer4") == [(512, last, last)]


def test_all_models_take_any_number_of_classes() -> None:
    for make in MODELS.values():
        assert make(GREY, 7)(torch.zeros(2, *GREY)).shape == (2, 7)


def test_a_model_is_the_same_for_the_same_seed() -> None:
    for make in MODELS.values():
        states = []
        for _ in range(2):
            torch.manual_seed(3)
            states.append(make(GREY, 10).state_dict())
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_catalogue_offers_these_models_and_each_fits_a_file() -> None:
    assert set(catalogue.IMAGE_MODELS) == set(MODELS)
    for make in MODELS.values():
        assert weights.schema_of(make(GREY, 10))


def test_only_resnet18_needs_torchvision() -> None:
    code = (
        "import sys; from p2pfl.learning.models import MODELS, ImageShape; "
        "[MODELS[name](ImageShape(1, 28, 28), 10) for name in ('2nn', 'cnn', 'lenet')]; "
        "print('torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
