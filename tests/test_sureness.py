"""What is vouched for: people's digits are, letters and scribbles are not."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disguises import encoded, enlarged
from nodigits import nothing
from PIL import Image

from mnist_lit import load_pretrained
from mnist_lit.assets import test_digits as embedded_test_digits
from mnist_lit.network import DigitNet
from mnist_lit.reading import read_digits
from mnist_lit.sureness import LEAST, TEMPERATURE, Array, judge, shipped, temperature_of

ROOT = Path(__file__).parent.parent


def digits(number: int) -> Array:
    """The first test digits, (N, 28, 28) in [0, 1]."""
    images: Array = (embedded_test_digits()[0][:number, 0] / 255).numpy()
    return images


def test_opencv_and_torch_agree_on_what_is_shipped() -> None:
    """benchmarks/detector.py must be run again after the weights have changed."""
    images = digits(500)
    ours, theirs = shipped()(images), judge(load_pretrained())(images)
    assert ours.shape == (500, 11)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    np.testing.assert_allclose(ours[:, :10].sum(axis=1), 1, atol=1e-5)


def test_the_constants_are_those_that_were_measured() -> None:
    study = json.loads((ROOT / "benchmarks" / "results" / "sureness.json").read_text())
    assert (study["least"], study["temperature"]) == (LEAST, TEMPERATURE)


def test_another_network_has_its_own_probabilities_and_the_same_detector() -> None:
    torch.manual_seed(0)
    network = DigitNet().eval()
    images = embedded_test_digits()[0][:20, 0] / 255
    judged = torch.from_numpy(judge(network)(images.numpy()))
    probabilities = (network(images[:, None]) / temperature_of(network)).softmax(dim=1)
    torch.testing.assert_close(judged[:, :10], probabilities)
    assert (judged[:, 10] <= probabilities.amax(dim=1)).all()
    nothing_there = judge(network)(np.ones((1, 28, 28), np.float32))
    assert nothing_there[0, 10] < LEAST * nothing_there[0, :10].max()


def test_a_temperature_makes_a_network_as_sure_as_the_shipped_one() -> None:
    class Scaled(torch.nn.Module):
        """The shipped network, with logits that are further apart or closer together."""

        def __init__(self, scale: float) -> None:
            super().__init__()
            self.network, self.scale = load_pretrained(), scale

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.network(images) * self.scale
            return logits

    images = digits(50)
    expected = shipped()(images)
    for scale in (0.5, 1, 3):
        network: Any = Scaled(scale)
        assert temperature_of(network) == pytest.approx(scale * TEMPERATURE, rel=1e-3)
        np.testing.assert_allclose(judge(network)(images), expected, atol=1e-3)


def test_a_network_that_cannot_read_is_not_sure() -> None:
    torch.manual_seed(0)
    sureness = judge(DigitNet().eval())(digits(50))[:, 10]
    assert (sureness < 0.5).all()


def test_test_digits_are_vouched_for() -> None:
    images, labels = embedded_test_digits()
    images, labels = images[::20, 0], labels[::20]
    judged = torch.from_numpy(shipped()((images / 255).numpy()))
    right, sureness = judged[:, :10].argmax(dim=1) == labels, judged[:, 10]
    assert (sureness < LEAST).float().mean() <= 0.02
    assert sureness[~right].mean() < sureness[right].median()


def unsure(images: list[Image.Image]) -> int:
    """How many are marked or refused."""
    results = read_digits(shipped(), [io.BytesIO(encoded(image)) for image in images])
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
    images = digits(9)
    run = shipped()
    np.testing.assert_allclose(run(images)[:number], run(images[:number]), atol=1e-5)


def test_threads_may_share_it() -> None:
    images = digits(64)
    run = shipped()
    expected = run(images)
    sizes = [1 + i % 7 for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        for size, judged in zip(sizes, pool.map(lambda n: run(images[:n]), sizes), strict=True):
            np.testing.assert_allclose(judged, expected[:size], atol=1e-5)
