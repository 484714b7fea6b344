"""What is vouched for: people's digits are, letters and scribbles are not."""

import io

import numpy as np
import pytest
import torch
from disguises import encoded, enlarged
from pages import nothing
from PIL import Image

from mnist_lit import load_pretrained
from mnist_lit.assets import test_digits as embedded_test_digits
from mnist_lit.network import DigitNet
from mnist_lit.reading import read_digits
from mnist_lit.sureness import LEAST, Sureness, fingerprint


def test_the_perceptron_belongs_to_the_shipped_weights() -> None:
    """benchmarks/sureness.py must be run again after the weights have changed."""
    assert Sureness(load_pretrained()).fitted is not None


def test_of_another_network_the_softmax_decides() -> None:
    torch.manual_seed(0)
    network = DigitNet().eval()
    judge = Sureness(network)
    probabilities, sureness = judge(torch.rand(5, 1, 28, 28))
    assert judge.least == LEAST
    assert torch.equal(sureness, probabilities.amax(dim=1))


def test_the_fingerprint_follows_every_weight() -> None:
    network = load_pretrained()
    before = fingerprint(network)
    next(network.parameters()).data[0] += 0.01
    assert fingerprint(network) != before


def test_test_digits_are_vouched_for() -> None:
    images, labels = embedded_test_digits()
    images, labels = images[::20], labels[::20]
    judge = Sureness(load_pretrained())
    probabilities, sureness = judge(images / 255)
    right = probabilities.argmax(dim=1) == labels
    marked = sureness < judge.least
    assert marked.float().mean() <= 0.03
    assert sureness[~right].mean() < sureness[right].median()


def unsure(images: list[Image.Image]) -> int:
    """How many are marked or refused."""
    results = read_digits(load_pretrained(), [io.BytesIO(encoded(image)) for image in images])
    return sum(isinstance(one, Exception) or one.uncertain for one in results)


def test_drawings_are_vouched_for_and_what_is_no_digit_is_not() -> None:
    digits = embedded_test_digits()[0][::50, 0].numpy()
    drawings = [enlarged(Image.fromarray(digit), 120) for digit in digits]
    assert unsure(drawings) <= 0.03 * len(drawings)
    random = np.random.default_rng(100)
    refused = unsure([nothing(random) for _ in range(150)])
    print(f"{refused} of 150 refused")
    assert refused >= 0.8 * 150


@pytest.mark.parametrize("number", [1, 7])
def test_sureness_does_not_depend_on_the_batch(number: int) -> None:
    images = embedded_test_digits()[0][:7] / 255
    judge = Sureness(load_pretrained())
    torch.testing.assert_close(judge(images)[1][:number], judge(images[:number])[1])
