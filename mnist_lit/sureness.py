"""Whether an answer is vouched for: the probability that an image shows a digit, and that one."""

import torch
from torch import Tensor

from mnist_lit.network import Network

LEAST = 0.5  # an answer that is less sure is marked


def vouched(network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 1, 28, 28) in [0, 1] -> (B, 10) probabilities and (B,) sureness, in [0, 1]."""
    with torch.inference_mode():
        probabilities = network(images).softmax(dim=1)
    return probabilities, probabilities.amax(dim=1)
