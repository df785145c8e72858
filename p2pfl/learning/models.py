"""The built-in image classifiers, for images of any size and number of channels.

- `2nn` and `cnn`: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data"
  (2017), section 3. For images of 28x28 they have 199,210 and 1,663,370 parameters, as in the paper.
- `lenet`: LeCun et al., "Gradient-Based Learning Applied to Document Recognition" (1998), section II.B, with
  ReLU and max pooling in place of sigmoids and trained subsampling.
- `resnet18`: He et al., "Deep Residual Learning for Image Recognition" (2016), from torchvision.

Layers have names, not numbers: the names become tensor names in model files.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from torch import nn


class ImageShape(NamedTuple):
    """Shape of a model's input image: [channels, height, width]."""

    channels: int
    height: int
    width: int


LENET_SIDE = 32
"""Edge of LeNet-5's input in pixels. Smaller images are padded to it, as MNIST's are in the paper."""

LARGE_SIDE = 64
"""Least edge in pixels for which `resnet18` keeps the first layers of the paper."""


def two_layers(shape: ImageShape, classes: int) -> nn.Module:
    """Return the FedAvg paper's "2NN": two hidden layers of 200 units."""
    return nn.Sequential(  # x: [batch, channels, height, width]
        OrderedDict(
            flat=nn.Flatten(),  # [batch, channels * height * width]
            hidden1=nn.Linear(shape.channels * shape.height * shape.width, 200),
            relu1=nn.ReLU(),
            hidden2=nn.Linear(200, 200),
            relu2=nn.ReLU(),
            out=nn.Linear(200, classes),
        )
    )


def convolutional(shape: ImageShape, classes: int) -> nn.Module:
    """Return the FedAvg paper's CNN: two padded 5x5 convolutions, each with pooling, and 512 units."""
    channels, height, width = shape
    return nn.Sequential(  # x: [batch, channels, height, width]
        OrderedDict(
            conv1=nn.Conv2d(channels, 32, 5, padding=2),  # [batch, 32, height, width]
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 5, padding=2),  # [batch, 64, height / 2, width / 2]
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flat=nn.Flatten(),  # [batch, 64 * (height / 4) * (width / 4)]
            hidden=nn.Linear(64 * (height // 4) * (width // 4), 512),
            relu3=nn.ReLU(),
            out=nn.Linear(512, classes),
        )
    )


def lenet(shape: ImageShape, classes: int) -> nn.Module:
    """Return LeNet-5 with its layer sizes: 6 and 16 channels, then 120 and 84 units."""
    channels, height, width = shape
    margin = max(0, LENET_SIDE - min(height, width)) // 2
    height, width = ((side + 2 * margin - 4) // 2 for side in (height, width))  # after the first pooling
    height, width = ((side - 4) // 2 for side in (height, width))  # after the second
    return nn.Sequential(  # x: [batch, channels, 28 or 32, ...]
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5, padding=margin),  # [batch, 6, 28, 28]
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),  # [batch, 16, 10, 10]
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flat=nn.Flatten(),  # [batch, 16 * 5 * 5]
            hidden1=nn.Linear(16 * height * width, 120),
            relu3=nn.ReLU(),
            hidden2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            out=nn.Linear(84, classes),
        )
    )


def resnet18(shape: ImageShape, classes: int) -> nn.Module:
    """Return torchvision's ResNet-18 without pretrained weights, for any number of channels.

    For images smaller than `LARGE_SIDE`, the first layer is a 3x3 convolution without stride or pooling, as
    in section 4.2 of the paper for CIFAR-10. The original stride and pooling are for 224x224: they would
    leave a single pixel of a 28x28 image for the last stage. This costs sixteen times the arithmetic.

    The model has batch normalisation. Its running statistics are buffers, which FedAvg averages too.
    """
    from torchvision import models  # here, since this import takes two seconds and 165 MB

    module: nn.Module = models.resnet18(weights=None, num_classes=classes)
    if min(shape.height, shape.width) >= LARGE_SIDE:
        module.conv1 = nn.Conv2d(shape.channels, 64, 7, stride=2, padding=3, bias=False)
    else:
        module.conv1 = nn.Conv2d(shape.channels, 64, 3, padding=1, bias=False)
        module.maxpool = nn.Identity()
    nn.init.kaiming_normal_(module.conv1.weight, mode="fan_out", nonlinearity="relu")  # as in torchvision
    return module


MODELS: dict[str, Callable[[ImageShape, int], nn.Module]] = {
    "2nn": two_layers,
    "cnn": convolutional,
    "lenet": lenet,
    "resnet18": resnet18,
}
"""Constructors by name. A model maps images [batch, channels, height, width] to logits [batch, classes]."""
