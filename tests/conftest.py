"""Real MNIST, unpacked once for all tests."""

from pathlib import Path

import pytest
from torchvision.datasets import MNIST

from mnist_lit.data import Digits, restore_mnist


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("mnist")
    restore_mnist(folder)
    return folder


@pytest.fixture(scope="session")
def digits(data_dir: Path) -> Digits:
    """The 10,000 test digits."""
    return Digits(MNIST(str(data_dir), train=False))
