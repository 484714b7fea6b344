"""Real MNIST, unpacked once, the command line, imported once, and a count of injected faults."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forks
from torchvision.datasets import MNIST

from mnist_lit.data import Digits, restore_mnist

# The commands under test are to show their lines at once on machines where nothing sees to it.
os.environ.pop("PYTHONUNBUFFERED", None)

# The installed command, as a person types it.
MNIST_LIT = shutil.which("mnist-lit", path=str(Path(sys.executable).parent)) or "mnist-lit"


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Of torch, in this process: BatchNorm takes other kernels on one than on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("mnist")
    restore_mnist(folder)
    return folder


@pytest.fixture(scope="session")
def digits(data_dir: Path) -> Digits:
    """The 10,000 test digits."""
    return Digits(MNIST(str(data_dir), train=False))


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    if not hasattr(os, "fork"):
        pytest.skip("processes are forked")
    with Forks() as forks:
        yield forks


@pytest.fixture(scope="session")
def run(forks: Forks) -> Run:
    """`run(folder, "--trainer.max_epochs", 1)`: the training command, without its imports' time."""
    return forks.command


Survived = Callable[..., None]


@pytest.fixture
def survived(record_property: Any) -> Survived:
    """`survived("a full disk", 4)` counts faults for benchmarks/reliability.py."""

    def count(fault: str, number: int = 1) -> None:
        record_property(f"survived: {fault}", number)

    return count


@pytest.fixture
def most(record_property: Any) -> Survived:
    """`most("MB of memory", 512)`: the largest of them is told by benchmarks/reliability.py."""

    def tell(what: str, number: float) -> None:
        record_property(f"most: {what}", number)

    return tell
