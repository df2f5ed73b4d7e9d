"""What a controller reads of images: a small convolutional network makes few numbers of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from memsuite.tasks import Task
from memsuite.types import Image

FEATURES = 64  # numbers that stand for an image
CHANNELS = (16, 32, 32)  # of the stages; the last number holds for all further ones
SIDE = 8  # stages halve an image until its shorter side is no longer than this


class ImageEncoder(nn.Module):
    """Replaces the images in an observation by features.

    Stages of a convolution of 3 x 3 with stride 2 and a ReLU halve an image until its shorter side is at most 8 pixels
    (at least one stage). A linear map to 64 features, a layer norm and a tanh follow (as in Yarats et al. 2021, arXiv
    2004.13649), so that the controller reads numbers of about the size that it begins with.

    Args:
        images: the parts of an observation that are images; each has a network of its own.
        observation_dim: width of the whole observation.
    """

    rest: Tensor

    def __init__(self, images: Sequence[Image], observation_dim: int) -> None:
        super().__init__()
        self.images = tuple(images)
        inside = {index for image in images for index in range(image.start, image.start + image.size)}
        rest = torch.tensor([index for index in range(observation_dim) if index not in inside], dtype=torch.int64)
        self.register_buffer("rest", rest, persistent=False)
        self.parts = nn.ModuleList(_convolutions(image) for image in images)
        self.width = len(rest) + FEATURES * len(self.images)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is no image, then the features of the images: ``[.., observation_dim] -> [.., width]``."""
        found = [x.index_select(-1, self.rest)]
        for image, part in zip(self.images, self.parts, strict=True):
            pixels = x[..., image.start : image.start + image.size].reshape(-1, *image.shape)
            features = part(pixels.permute(0, 3, 1, 2) if image.channels_last else pixels)
            found.append(features.reshape(*x.shape[:-1], FEATURES))
        return torch.cat(found, dim=-1)

    def describe(self) -> str:
        """Return the network in a few words, for records of runs."""
        kinds = [isinstance(layer, nn.Conv2d) for layer in self.parts[0].children()]
        return f"convolution: {sum(kinds)} stages, {FEATURES} features"


def _convolutions(image: Image) -> nn.Sequential:
    channels, *sides = (image.shape[2], *image.shape[:2]) if image.channels_last else image.shape
    layers: list[nn.Module] = []
    while not layers or min(sides) > SIDE:
        wider = CHANNELS[min(len(layers) // 2, len(CHANNELS) - 1)]
        layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.ReLU()]
        channels, sides = wider, [(side + 1) // 2 for side in sides]
    layers += [nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], FEATURES), nn.LayerNorm(FEATURES), nn.Tanh()]
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight, gain=2**0.5 if isinstance(layer, nn.Conv2d) else 1.0)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(*layers)


def controller_input_dim(task: Task) -> int:
    """Return the width of what a controller reads: of the observation, with each image replaced by its features."""
    return task.observation_dim - sum(image.size - FEATURES for image in task.images)
