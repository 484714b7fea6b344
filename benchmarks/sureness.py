"""Fits mnist_lit/sureness.py to the shipped weights, and measures what it is worth.

    python benchmarks/sureness.py [--ckpt PATH] [--examples FILE]

Draws pages, disguises and things that are no digits (tests/pages.py) from MNIST's test digits, on
which the weights were not trained; a twentieth of them, with which tests/ and benchmarks/wild.py
measure, is left out. Each image goes through page.py, as a user's file does, so that the perceptron
sees what predict sees: digits, and also digits with a frame or a neighbour. Beside them stand the
test digits, digits drawn in other hands (hands.py, another seed than in training) and characters of
fonts that are no digits, all with the recipe's own augmentation. A quarter is kept back: on it the
curve is measured, and `least` is chosen, below which lie MARKED of the digits that are classified
right; the temperature is that of the least loss on digits that are not MNIST's. The drawn pages do
not depend on the weights: in FILE they are kept for the next time. Writes
mnist_lit/assets/sureness.npz and benchmarks/results/sureness.json.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from record import save
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests"))

from disguises import enlarged  # noqa: E402
from pages import PAGES, Digit, by_hand, in_pencil, nothing, printed  # noqa: E402

from mnist_lit import load_pretrained  # noqa: E402
from mnist_lit.assets import test_digits  # noqa: E402
from mnist_lit.augment import Augmentation  # noqa: E402
from mnist_lit.hands import centre, drawn_digits, fonts  # noqa: E402
from mnist_lit.hands import printed as in_print  # noqa: E402
from mnist_lit.images import UnreadableImageError  # noqa: E402
from mnist_lit.page import layouts  # noqa: E402
from mnist_lit.strokes import Strokes  # noqa: E402
from mnist_lit.sureness import Sureness, described, fingerprint  # noqa: E402
from mnist_lit.weights import load_network  # noqa: E402

MARKED = 0.02  # of the digits that are read right, on what is kept back
NONE = -1  # the label of what is no digit
SEEDS, IMAGES = (21, 22), 1400  # what is drawn: so many images with each seed
MORE = 6000  # digits by mnist_lit/hands.py, and as many other characters
HIDDEN, EPOCHS = 32, 25  # of the perceptron
# Those that look like no digit: without O, S, I, l and the like.
CHARACTERS = (
    "ABCDEFGHJKLMNPQRTUVWXYZabcdefghijkmnpqrtuvwxyz@#$%&*+=?!<>{}[]()/\\~^"
    "\u03b1\u03b2\u03b3\u03b4\u03b5\u03b6\u03b7\u03b8\u03bb\u03bc\u03be\u03c0\u03c1\u03c3\u03c4"
    "\u03c6\u03c7\u03c8\u03c9\u0394\u0398\u039b\u039e\u03a0\u03a3\u03a6\u03a8\u03a9\u2202\u2211"
    "\u221e\u2260\u221a\u2192\u2190\u2191\u00a7\u00b6\u20ac\u00a3\u00f1"
)


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
    torch.manual_seed(0)
    recipe = yaml.safe_load((ROOT / "configs" / "reader.yaml").read_text())["data"]
    augmentation = Augmentation(**(recipe["augmentation"] | {"translate": 0.0}))
    strokes = Strokes(**recipe["strokes"])
    of_program, program_labels = drawn_digits(MORE, seed=SEEDS[0])
    of_test, test_labels = (
        tensor[[i for i in range(10_000) if i % 20]] for tensor in test_digits()
    )
    more = torch.cat([characters(MORE), (torch.cat([of_program, of_test])).float() / 255])
    return (
        torch.cat([torch.from_numpy(x)[:, None].float() / 255, strokes(augmentation(more))]),
        torch.cat([torch.from_numpy(y), torch.full((MORE,), NONE), program_labels, test_labels]),
        [*k.tolist(), *["nothing"] * MORE, *["program"] * MORE, *["MNIST"] * len(of_test)],
    )


def characters(number: int) -> Tensor:
    """(N, 1, 28, 28) in [0, 1]: characters in print that are no digits, placed as digits are."""
    random = np.random.default_rng(0)
    faces, images = fonts(), torch.zeros(number, 1, 28, 28)
    for image in images:
        glyph = torch.zeros(0, 0)
        while not glyph.numel():
            character = CHARACTERS[random.integers(len(CHARACTERS))]
            face = faces[random.integers(len(faces))]
            glyph = in_print(character, face, float(np.exp(random.uniform(-0.3, 0.3))))
        top, left = ((28 - side) // 2 for side in glyph.shape)
        image[0, top : top + glyph.shape[0], left : left + glyph.shape[1]] = glyph
    return centre(images)


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


def fit(clues: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """A perceptron: (N, D + 11) and (N,) 0 or 1 -> its layers (D + 11, HIDDEN) and (HIDDEN + 1)."""
    torch.manual_seed(0)
    mean, spread = clues.mean(dim=0), clues.std(dim=0) + 1e-6
    mean[-11:], spread[-11:] = 0, 1  # the digit and 1
    scaled = (clues - mean) / spread
    first, last = nn.Linear(clues.shape[1], HIDDEN, bias=False), nn.Linear(HIDDEN, 1)
    net = nn.Sequential(first, nn.ReLU(), nn.Dropout(0.2), last)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-2)
    for epoch in range(EPOCHS):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - epoch / EPOCHS)
        for some in torch.randperm(len(clues)).split(128):
            loss = F.binary_cross_entropy_with_logits(net(scaled[some])[:, 0], right[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    inner = (first.weight / spread).detach().T.contiguous()
    inner[-1] -= mean @ inner
    return inner, torch.cat([last.weight[0], last.bias]).detach()


def temperature_of(logits: Tensor, labels: Tensor) -> float:
    """By which logits are divided for the least cross-entropy, to a twentieth."""
    return min(
        (step / 20 for step in range(10, 80)),
        key=lambda t: float(F.cross_entropy(logits / t, labels)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ckpt", help="weights instead of the shipped ones")
    parser.add_argument("--examples", type=Path, metavar="FILE", help="an .npz file")
    args = parser.parse_args()
    network = load_network(args.ckpt) if args.ckpt else load_pretrained()
    images, labels, kinds = examples(args.examples)
    look = Sureness(network, {"fingerprint": 0, "least": 0}).look
    logits, clues = (torch.cat(parts) for parts in zip(*map(look, images.split(500)), strict=True))
    clues = described(logits, clues)
    right = labels == logits.argmax(dim=1)
    kept = torch.from_numpy(np.random.default_rng(1).random(len(images)) < 0.25)
    first, last = fit(clues[~kept], right[~kept].float())
    sureness = ((clues @ first).relu() @ last[:-1] + last[-1]).sigmoid()
    least = float(torch.quantile(sureness[kept & right], MARKED))
    other = kept & (labels != NONE) & torch.tensor([kind != "MNIST" for kind in kinds])
    temperature = temperature_of(logits[other], labels[other])
    np.savez(
        ROOT / "mnist_lit" / "assets" / "sureness.npz",
        first=first.numpy(),
        last=last.numpy(),
        temperature=np.float32(temperature),
        least=np.float32(least),
        fingerprint=np.int64(fingerprint(network)),
    )
    digit = labels != NONE
    none = torch.tensor([kind == "nothing" for kind in kinds])
    result = {
        "examples": len(images),
        "kept_back": int(kept.sum()),
        "least": least,
        "temperature": temperature,
        "nothing_refused": _share(sureness[kept & none] < least),
        "no_single_digit_refused": _share(sureness[kept & ~digit] < least),
        "by_softmax": _share(
            logits.softmax(dim=1).amax(dim=1)[kept & none]
            < torch.quantile(logits.softmax(dim=1).amax(dim=1)[kept & right], MARKED)
        ),
        "curve": curve(sureness[kept & digit], right[kept & digit]),
    }
    save("sureness", result, ckpt=args.ckpt)
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
