"""Fits mnist_lit/sureness.py to the shipped weights, and measures what it is worth.

    python benchmarks/sureness.py [--ckpt PATH] [--examples FILE]

Draws pages, disguises and things that are no digits (tests/pages.py) from MNIST's test digits, on
which the weights were not trained; a twentieth of them, with which tests/ and benchmarks/wild.py
measure, is left out. Each image goes through page.py, as a user's file does, so that the
regressions see what predict sees: digits, and also digits with a frame or a neighbour. A quarter
of what is found is kept back: on it the curve is measured, and `least` is chosen, below which lie
MARKED of the digits that are read right. The examples do not depend on the weights: in FILE they
are kept for the next time. Writes mnist_lit/assets/sureness.npz and
benchmarks/results/sureness.json.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from record import save
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests"))

from disguises import enlarged  # noqa: E402
from pages import PAGES, Digit, by_hand, in_pencil, nothing, printed  # noqa: E402

from mnist_lit import load_pretrained  # noqa: E402
from mnist_lit.assets import test_digits  # noqa: E402
from mnist_lit.images import UnreadableImageError  # noqa: E402
from mnist_lit.page import layouts  # noqa: E402
from mnist_lit.sureness import Sureness, fingerprint  # noqa: E402
from mnist_lit.weights import load_network  # noqa: E402

MARKED = 0.02  # of the digits that are read right, on what is kept back
NONE = -1  # the label of what is no digit
SEEDS, IMAGES = (21, 22), 1400  # what is drawn: so many images with each seed


def examples(file: Path | None) -> tuple[Tensor, Tensor, list[str]]:
    """(N, 1, 28, 28) in [0, 1], their labels and kinds; from the file, if it is there."""
    if file and file.exists():
        with np.load(file) as kept:
            x, y, k = kept["x"], kept["y"], kept["k"]
    else:
        drawn = [draw(IMAGES, seed) for seed in SEEDS]
        x, y, k = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        if file:
            np.savez_compressed(file, x=x, y=y, k=k)
    return torch.from_numpy(x)[:, None].float() / 255, torch.from_numpy(y), k.tolist()


def draw(number: int, seed: int) -> tuple[npt.NDArray[np.uint8], ...]:
    """Drawn images -> what page.py takes for digits: (N, 28, 28), their labels, their kinds."""
    random = np.random.default_rng(seed)
    images, labels = test_digits()
    kept = np.array([i for i in range(len(images)) if i % 20])
    names = list(PAGES)
    pixels, truth, kinds = [], [], []

    def digit() -> Digit:
        if random.random() < 0.3:
            return printed(random)
        i = int(random.choice(kept))
        image = Image.fromarray(images[i, 0].numpy())
        if random.random() < 0.5:  # as more hands would write it
            large = image.resize((140, 140), Image.Resampling.BICUBIC)
            bent = by_hand(large.point(lambda level: 255 - level), random)
            image = bent.point(lambda level: 255 - level).resize((28, 28), Image.Resampling.BOX)
        return image, int(labels[i])

    for i in range(number):
        boxes: list[Any] = []
        text, kind = "", "nothing"
        if i % 3 == 0:
            kind = names[i // 3 % len(names)]
            image, text, boxes = PAGES[kind]([digit() for _ in range(6)], random)
        elif i % 3 == 1:
            kind = "alone"
            one, label = digit()
            side = int(random.choice([8, 16, 20, 28, 32, 64, 150, 280]))
            if side == 8:  # cropped, as scikit-learn's
                one = one.crop(one.getbbox())
            image = enlarged(one.resize((side, side), Image.Resampling.BOX), side)
            if 16 <= side <= 64 and random.random() < 0.5:
                image = in_pencil(one, side, random)
            if random.random() < 0.3:
                image = image.point(lambda level: 255 - level)
            image, text, boxes = image.convert("RGB"), str(label), [(0, 0, side, side)]
        else:
            image = nothing(random)
        try:
            found = layouts(image)
        except UnreadableImageError:
            continue
        for layout in found:
            for one_found in layout.digits:
                best, character = max(
                    ((_overlap(one_found.box, box), c) for box, c in zip(boxes, text, strict=True)),
                    default=(0.0, ""),
                )
                if kind == "alone":
                    best = float(len(layout.digits) == 1)
                if not 0.5 < best < 0.7:  # else it is hard to say
                    pixels.append((255 * one_found.pixels).round().astype(np.uint8))
                    truth.append(int(character) if best >= 0.7 else NONE)
                    kinds.append(kind)
    return np.stack(pixels), np.array(truth), np.array(kinds)


def _overlap(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if min(width, height) <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def fit(clues: Tensor, read: Tensor, right: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """A logistic regression for each digit that is read, near to one that they share."""
    mean, spread = clues.mean(dim=0), clues.std(dim=0) + 1e-6
    scaled = (clues - mean) / spread
    shared = torch.zeros(clues.shape[1], requires_grad=True)
    own = torch.zeros(10, clues.shape[1], requires_grad=True)
    bias = torch.zeros(10, requires_grad=True)
    optimizer = torch.optim.LBFGS([shared, own, bias], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logit = (scaled * (shared + own[read])).sum(dim=1) + bias[read]
        loss = F.binary_cross_entropy_with_logits(logit, right)
        loss = loss + decay * (own.square().sum() + 0.1 * shared.square().sum())
        loss.backward()
        return loss

    optimizer.step(closure)
    weights = (shared + own).detach() / spread
    return weights, bias.detach() - weights @ mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ckpt", help="weights instead of the shipped ones")
    parser.add_argument("--examples", type=Path, metavar="FILE", help="an .npz file")
    parser.add_argument("--decay", type=float, default=1e-3)
    args = parser.parse_args()
    network = load_network(args.ckpt) if args.ckpt else load_pretrained()
    images, labels, kinds = examples(args.examples)
    look = Sureness(network, {"fingerprint": 0, "least": 0}).look
    logits, clues = (torch.cat(parts) for parts in zip(*map(look, images.split(500)), strict=True))
    read = logits.argmax(dim=1)
    right = labels == read
    kept = torch.from_numpy(np.random.default_rng(1).random(len(images)) < 0.25)
    weights, bias = fit(clues[~kept], read[~kept], right[~kept].float(), args.decay)
    sureness = ((clues * weights[read]).sum(dim=1) + bias[read]).sigmoid()
    least = float(torch.quantile(sureness[kept & right], MARKED))
    np.savez(
        ROOT / "mnist_lit" / "assets" / "sureness.npz",
        weights=weights.numpy(),
        bias=bias.numpy(),
        least=np.float32(least),
        fingerprint=np.float64(fingerprint(network)),
    )
    digit = labels != NONE
    none = torch.tensor([kind == "nothing" for kind in kinds])
    result = {
        "examples": len(images),
        "kept_back": int(kept.sum()),
        "least": least,
        "nothing_refused": _share(sureness[kept & none] < least),
        "no_single_digit_refused": _share(sureness[kept & ~digit] < least),
        "by_softmax": _share(
            logits.softmax(dim=1).amax(dim=1)[kept & none]
            < torch.quantile(logits.softmax(dim=1).amax(dim=1)[kept & right], MARKED)
        ),
        "curve": curve(sureness[kept & digit], right[kept & digit]),
    }
    save("sureness", result, ckpt=args.ckpt, decay=args.decay)
    print(result)


def _share(mask: Tensor) -> float:
    return float(mask.float().mean())


def curve(sureness: Tensor, right: Tensor) -> list[list[float]]:
    """The share of digits that is kept, and how many of these are right."""
    order = sureness.argsort(descending=True)
    shares = (0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 1.0)
    return [[share, _share(right[order[: round(share * len(order))]])] for share in shares]


if __name__ == "__main__":
    main()
