"""Whether an answer is vouched for: how sure it is that an image shows a digit, and that one.

The softmax alone does not tell: it knows ten digits and nothing else, and is as sure of a B that
it is an 8. So a small perceptron tells digits that are classified right from all else (letters,
scribbles, digits with a frame or a neighbour, errors), by the network's own last features. It is
fitted by benchmarks/sureness.py to the shipped weights, on images that they were not trained on,
and belongs to them alone; so does the temperature, by which the logits are divided (Guo et al., On
calibration of modern neural networks, 2017). Of another network, the softmax has to do.
"""

import zlib
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_lit.assets import FILES
from mnist_lit.network import Network

LEAST = 0.5  # of the softmax, where nothing was fitted


class Sureness:
    """How sure a network is of what it reads.

    Args:
        network: In evaluation mode.
        fitted: The perceptron: `first` (D + 11, H) for the D clues, the digit (one-hot) and 1,
            `last` (H + 1) for the hidden units and 1; the `temperature`; `least`, below which
            nothing is vouched for; and the `fingerprint` of the network to which they were fitted.
            As default those of the shipped weights.
    """

    def __init__(self, network: Network, fitted: dict[str, Any] | None = None) -> None:
        self.network = network
        fitted = fitted or _shipped()
        self.fitted = fitted if int(fitted["fingerprint"]) == fingerprint(network) else None
        self.least = float(fitted["least"]) if self.fitted else LEAST

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, 28, 28) in [0, 1] -> (B, 10) probabilities of the digits and (B,) sureness."""
        logits, clues = self.look(images)
        if self.fitted is None:
            probabilities = logits.softmax(dim=1)
            return probabilities, probabilities.amax(dim=1)
        first, last = (torch.from_numpy(self.fitted[name]) for name in ("first", "last"))
        hidden = (described(logits, clues) @ first).relu()
        sureness = (hidden @ last[:-1] + last[-1]).sigmoid()
        return (logits / float(self.fitted["temperature"])).softmax(dim=1), sureness

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, 28, 28) -> (B, 10) logits and (B, D) clues: what the perceptron looks at."""
        features: list[Tensor] = []
        output: Any = self.network.output
        hook = output.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
        with torch.inference_mode():
            logits = self.network(images)
        hook.remove()
        best = logits.log_softmax(dim=1).topk(2, dim=1).values
        clues = [
            logits,
            logits.logsumexp(dim=1, keepdim=True),
            best[:, :1].clamp(min=-8),
            (best[:, :1] - best[:, 1:]).clamp(max=12),
        ]
        maps = features[0][: len(images)]  # with TTA, the images as they are come first
        if maps.ndim == 4:
            clues += [F.adaptive_avg_pool2d(maps, 2).flatten(1), maps.amax(dim=(2, 3))]
        return logits, torch.cat(clues, dim=1)


def described(logits: Tensor, clues: Tensor) -> Tensor:
    """(B, 10) and (B, D) -> (B, D + 11): the clues, the digit that is classified, and 1."""
    digit = F.one_hot(logits.argmax(dim=1), 10).float()
    return torch.cat([clues, digit, torch.ones(len(clues), 1)], dim=1)


def fingerprint(network: Network) -> int:
    """A number that is the same for the same weights, bit for bit."""
    number = 0
    for tensor in network.parameters():
        number = zlib.crc32(tensor.detach().contiguous().numpy().tobytes(), number)
    return number


@cache
def _shipped() -> dict[str, Any]:
    with (FILES / "sureness.npz").open("rb") as file, np.load(file) as arrays:
        return dict(arrays)
