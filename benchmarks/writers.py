"""Whether MNIST's training images stand in the order of their writers: how alike neighbours slant.

    python benchmarks/writers.py

A digit's slant is how far its ink leans per pixel of height, from its second moments. It is
compared with the mean and deviation of the same digit, so that 1s are not expected to slant as 4s
do, and then correlated between images so many places apart. In an order by chance, all correlations
would be 0, give or take 0.004. The result is benchmarks/results/writers.json.
"""

import tempfile
from pathlib import Path

import torch
from record import save
from torch import Tensor
from torchvision.datasets import MNIST

from mnist_lit.data import restore_mnist

APART = (1, 2, 3, 4, 10, 50, 100, 1_000, 10_000)


def slants(images: Tensor) -> Tensor:
    """(N, H, W) -> (N,) pixels to the right per pixel upwards."""
    ink = images / images.sum(dim=(1, 2), keepdim=True)
    y = torch.arange(float(images.shape[1])).view(1, -1, 1)
    x = torch.arange(float(images.shape[2])).view(1, 1, -1)
    y = y - (ink * y).sum(dim=(1, 2), keepdim=True)
    x = x - (ink * x).sum(dim=(1, 2), keepdim=True)
    return -(ink * x * y).sum(dim=(1, 2)) / (ink * y**2).sum(dim=(1, 2))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        restore_mnist(Path(folder))
        mnist = MNIST(folder, train=True)
    values, labels = slants(mnist.data.float()), mnist.targets
    for digit in range(10):
        of_digit = labels == digit
        chosen = values[of_digit]
        values[of_digit] = (chosen - chosen.mean()) / chosen.std()
    correlations = {f"{apart}": float((values[apart:] * values[:-apart]).mean()) for apart in APART}
    for apart, correlation in correlations.items():
        print(f"{apart:>6} images apart {correlation:6.2f}")
    save("writers", {"correlations": correlations})


if __name__ == "__main__":
    main()
