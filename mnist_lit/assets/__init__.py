"""What travels with the package: the files of MNIST, a trained DigitNet and its detector."""

import gzip
import io
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FILES = resources.files(__name__)


def test_digits() -> "tuple[Tensor, Tensor]":
    """MNIST's test set: images (10000, 1, 28, 28) uint8 and labels (10000,) uint8."""
    import torch  # here, because reading a digit does without

    images, labels = (
        torch.frombuffer(
            bytearray(gzip.decompress((FILES / "mnist" / name).read_bytes())), dtype=torch.uint8
        )
        for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
    )
    return images[16:].view(-1, 1, 28, 28), labels[8:]  # after the headers


def first_test_digit() -> "Tensor":
    """A seven, (1, 28, 28) uint8, without the time that it takes to unpack the others."""
    return _first("t10k-images-idx3-ubyte.gz", 16, 28 * 28).view(1, 28, 28)


def training_digits(number: int) -> "tuple[Tensor, Tensor]":
    """The first of MNIST's training set: images (N, 1, 28, 28) uint8 and labels (N,) uint8."""
    images = _first("train-images-idx3-ubyte.gz", 16, number * 28 * 28)
    return images.view(-1, 1, 28, 28), _first("train-labels-idx1-ubyte.gz", 8, number)


def _first(name: str, header: int, size: int) -> "Tensor":
    """(size,) uint8, what follows a file's header; no more of it is unpacked."""
    import torch

    packed = io.BytesIO((FILES / "mnist" / name).read_bytes())
    with gzip.open(packed) as file:
        content = file.read(header + size)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[header:]
