"""How sure an answer is: what a network makes of a digit, and whether it is one.

The softmax alone does not tell: it knows ten digits and nothing else, and is as sure of a B that
it is an 8. So a second, smaller network, the detector, looks at the same image; it was trained to
tell ten digits and an eleventh class, all else: letters, scribbles, parts of digits, digits with a
frame or a neighbour. The sureness of an answer is the detector's probability that there is a digit,
times the network's that it is this one, its logits divided by a temperature (Guo et al., On
calibration of modern neural networks, 2017). benchmarks/detector.py made the detector and chose
LEAST and TEMPERATURE.
"""

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from mnist_lit.assets import FILES, training_digits

if TYPE_CHECKING:
    from mnist_lit.network import Network

Array = npt.NDArray[np.float32]
# (B, 28, 28) in [0, 1] -> (B, 11): the probabilities of the digits 0 to 9, then the sureness.
Judge = Callable[[Array], Array]
LEAST = 0.293  # sureness, below which an answer is not vouched for
TEMPERATURE = 1.6  # of the shipped weights
MARGIN = 9.6015  # theirs: how far a label's logit is above all others, in the mean of SOME digits
SOME = 200
NONE = 10  # the detector's class of what is no digit


def load_judge(path: str | Path | None = None) -> Judge:
    """The shipped weights, or those in a file or training checkpoint, in which nothing is executed.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file does not hold the weights of a DigitNet or TinyNet that can classify.
    """
    if path is None:
        return shipped()
    from mnist_lit.weights import load_network  # here, because what is shipped needs no torch

    return judge(load_network(path))


def shipped() -> Judge:
    """The shipped weights, run by OpenCV, which imports in a tenth of the time of torch."""
    network, detector = (
        cv2.dnn.readNetFromONNX(np.frombuffer((FILES / name).read_bytes(), np.uint8))
        for name in ("digitnet.onnx", "detector.onnx")
    )
    alone = Lock()  # one call at a time

    def run(images: Array) -> Array:
        with alone:
            for net in (network, detector):
                net.setInput(images[:, None])
            return _judged(network.forward(), detector.forward(), TEMPERATURE)

    return run


def judge(network: "Network") -> Judge:
    """A network of the user's own, in evaluation mode, beside the shipped detector, by torch."""
    import torch

    detector, temperature = load_detector(), temperature_of(network)

    def run(images: Array) -> Array:
        with torch.inference_mode():
            seen = torch.from_numpy(images)[:, None]
            return _judged(network(seen).numpy(), detector(seen).numpy(), temperature)

    return run


def temperature_of(network: "Network") -> float:
    """At which a network is as sure of MNIST's digits as the shipped weights are at theirs.

    What a network was trained by decides how far apart its logits are: label smoothing brings them
    together, fine-tuning hardly moves them.

    Raises:
        ValueError: The network's logits are not finite.
    """
    import torch

    images, labels = training_digits(SOME)
    with torch.inference_mode():
        logits = network(images / 255)
    if not logits.isfinite().all():
        raise ValueError("weights that give logits which are not finite on MNIST's digits")
    chosen = torch.nn.functional.one_hot(labels.long(), 10).bool()
    margins = logits[chosen] - logits.masked_fill(chosen, -torch.inf).amax(dim=1)
    ratio = max(margins.mean().item() / MARGIN, 0.3)  # one that cannot read is not to seem sure
    return round(TEMPERATURE * ratio, 3)


def load_detector() -> "Network":
    """The shipped detector: (B, 1, 28, 28) in [0, 1] -> (B, 11) logits, the last of no digit."""
    from mnist_lit.weights import load_network

    with resources.as_file(FILES / "detector.pt") as file:
        return load_network(file, classes=NONE + 1)


def _judged(logits: Array, detected: Array, temperature: float) -> Array:
    """(B, 10) and (B, 11) logits -> (B, 11), as a Judge returns it."""
    probabilities = softmax(logits / temperature)
    there = 1 - softmax(detected)[:, NONE]
    sureness = there * probabilities.max(axis=1)
    return np.concatenate([probabilities, sureness[:, None]], axis=1)


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax: Array = powers / powers.sum(axis=1, keepdims=True)
    return softmax
