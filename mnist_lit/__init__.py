"""A CNN of 17,506 parameters that classifies handwritten digits, trained with PyTorch Lightning.

`mnist_lit.load_pretrained()` returns the trained network.
"""

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mnist_lit.network import Network

__version__ = "0.1.0"


def load_pretrained(path: "str | Path | None" = None) -> "Network":
    """The trained DigitNet that comes with the package, or the network in a file, on the CPU.

    It is in evaluation mode, takes (B, 1, 28, 28) in [0, 1], white digits on black, and returns
    (B, 10) logits.

    Args:
        path: A training checkpoint or a file of weights; nothing in it is executed.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file does not hold the weights of a DigitNet or TinyNet.
    """
    from mnist_lit.assets import FILES  # here, so that `import mnist_lit` loads no torch
    from mnist_lit.weights import load_network

    if path is not None:
        return load_network(path)
    with resources.as_file(FILES / "digitnet.pt") as shipped:
        return load_network(shipped)
