"""A 17,506-parameter CNN that reads handwritten digits, trained with PyTorch Lightning.

`mnist_lit.load_pretrained()` returns the trained network.
"""

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_lit.network import Network

__version__ = "0.1.0"


def load_pretrained() -> "Network":
    """The trained DigitNet that comes with the package, in evaluation mode, on the CPU.

    It takes (B, 1, 28, 28) in [0, 1], white digits on black, and returns (B, 10) logits.
    """
    from mnist_lit.assets import FILES  # here, so that `import mnist_lit` loads no torch
    from mnist_lit.weights import load_network

    with resources.as_file(FILES / "digitnet.pt") as path:
        return load_network(path)
