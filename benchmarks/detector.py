"""Trains the detector, which tells digits from other things, and measures what it is worth.

    python benchmarks/detector.py [--examples FOLDER] [--keep]

It learns from MNIST's training digits and from digits in other hands (mnist_lit/hands.py), with the
augmentation of configs/reader.yaml; from two digits in one image and characters that are none; and
from what page.py finds on drawn pages and on images of nothing (tests/pages.py, nodigits.py), as
predict would, where many a find is a part of a digit, or one with its frame or neighbour. Every
twentieth digit of MNIST is kept back, with all that is drawn of it. On these are chosen LEAST,
below which lie MARKED of the digits that are classified right, and the temperature, that of least
loss on digits that are not MNIST's; and on these the curve is measured. What is drawn is kept in
FOLDER for the next time. With --keep, the detector is only measured.

Writes mnist_lit/assets/detector.pt, the ONNX files of the detector and of the shipped weights, and
benchmarks/results/sureness.json, whose `least` and `temperature` mnist_lit/sureness.py has.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from record import save
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests"))

from disguises import enlarged  # noqa: E402
from nodigits import LETTERS, NEARLY, nothing  # noqa: E402
from pages import PAGES, Digit, by_hand, in_pencil, printed  # noqa: E402

from mnist_lit import load_pretrained  # noqa: E402
from mnist_lit.assets import training_digits  # noqa: E402
from mnist_lit.augment import Augmentation  # noqa: E402
from mnist_lit.export import export  # noqa: E402
from mnist_lit.hands import centre, drawn_digits, fonts  # noqa: E402
from mnist_lit.hands import printed as in_print  # noqa: E402
from mnist_lit.images import UnreadableImageError  # noqa: E402
from mnist_lit.muon import Muon  # noqa: E402
from mnist_lit.network import DigitNet  # noqa: E402
from mnist_lit.page import layouts  # noqa: E402
from mnist_lit.strokes import Strokes  # noqa: E402
from mnist_lit.sureness import NONE, judge  # noqa: E402

ASSETS = ROOT / "mnist_lit" / "assets"
NARROW, WIDE = 14, 24
STICK = 0.2  # width by length, of what nobody tells from a 1
MARKED = 0.012  # of the digits that are read right, on what is kept back
IMAGES, SEEDS, KEPT_BACK = 7000, (31, 32), (3000, 34)  # what is drawn: images, seeds
OTHERS = 20_000  # digits by mnist_lit/hands.py, and as many characters
PAIRS = 6000  # of digits in one image
EPOCHS, BATCH, MUON_LR, ADAM_LR, WARM_UP = 12, 128, 0.06, 0.03, 0.2
EMA = 0.995
SIGNS = "\u2202\u2211\u221e\u2260\u221a\u2192\u2190\u2191\u00a7\u00b6\u20ac\u00a3\u00f1"
GREEK = [chr(c) for c in range(0x3B1, 0x3CA) if c != 0x3BF]
CHARACTERS = [*LETTERS, *GREEK, *SIGNS, *3 * NEARLY]

Digits = tuple[Tensor, Tensor]  # (N, 1, 28, 28) uint8 and their labels (N,)


class Drawn(NamedTuple):
    """What was drawn, and found again."""

    images: npt.NDArray[np.uint8]  # (N, 1, 28, 28)
    labels: npt.NDArray[np.int64]  # (N,): NONE is no digit
    kinds: npt.NDArray[np.str_]  # (N,)


def kept(folder: Path | None, number: int, seed: int, mnist: Digits) -> Drawn:
    """draw(), or what it drew the last time."""
    file = folder / f"{number}-{seed}.npz" if folder else None
    if file and file.exists():
        with np.load(file) as arrays:
            return clear(Drawn(*(arrays[name] for name in Drawn._fields)))
    drawn = draw(number, seed, mnist)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, **drawn._asdict())
    return clear(drawn)


def mnist_digits() -> tuple[Digits, Digits]:
    """MNIST's training digits: most, and every twentieth."""
    images, labels = training_digits(60_000)
    labels = labels.long()
    twentieth = torch.arange(len(images)) % 20 == 0
    return (images[~twentieth], labels[~twentieth]), (images[twentieth], labels[twentieth])


def characters(number: int, seed: int) -> Tensor:
    """(N, 1, 28, 28) uint8: characters in print that are no digits, placed as digits are."""
    random = np.random.default_rng(seed)
    faces, images = fonts(), torch.zeros(number, 1, 28, 28)
    for image in images:
        glyph = torch.zeros(0, 0)
        while not glyph.numel():
            character = CHARACTERS[random.integers(len(CHARACTERS))]
            face = faces[random.integers(len(faces))]
            glyph = in_print(character, face, float(np.exp(random.uniform(-0.3, 0.3))))
        top, left = ((28 - side) // 2 for side in glyph.shape)
        image[0, top : top + glyph.shape[0], left : left + glyph.shape[1]] = glyph
    return (255 * centre(images)).round().byte()


def pairs(number: int, seed: int, mnist: Digits) -> Tensor:
    """(N, 1, 28, 28) uint8: two digits beside each other, touching or nearly."""
    random = np.random.default_rng(seed)
    result = torch.zeros(number, 1, 28, 28, dtype=torch.uint8)
    for image in result:
        one, other = (
            cropped(mnist[0][random.integers(len(mnist[0])), 0].numpy()) for _ in range(2)
        )
        gap = int(random.integers(4))
        both = np.zeros((20, one.shape[1] + gap + other.shape[1]), np.uint8)
        both[: len(one), : one.shape[1]] = one
        both[20 - len(other) :, one.shape[1] + gap :] = other
        zoom = 20 / max(both.shape)
        size = max(1, round(zoom * both.shape[1])), max(1, round(zoom * both.shape[0]))
        small = cv2.resize(both, size, interpolation=cv2.INTER_AREA)
        top, left = (28 - size[1]) // 2, (28 - size[0]) // 2
        image[0, top : top + size[1], left : left + size[0]] = torch.from_numpy(small)
    return result


def cropped(digit: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    rows, columns = np.nonzero(digit > 40)
    return digit[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1][:20]


def draw(number: int, seed: int, mnist: Digits) -> Drawn:
    """Drawn images -> what page.py takes for digits."""
    random = np.random.default_rng(seed)
    images, labels = mnist
    names = list(PAGES)
    pixels, truth, kinds = [], [], []

    def digit() -> Digit:
        if random.random() < 0.3:
            return printed(random)
        i = int(random.integers(len(images)))
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
    return Drawn(np.stack(pixels)[:, None], np.array(truth), np.array(kinds))


def _overlap(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if min(width, height) <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def sticks(images: Tensor) -> Tensor:
    """(N, 1, 28, 28) -> (N,): whether the ink is a bare stroke, by its second moments."""
    ink = images[:, 0].float()
    ink = ink / ink.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    place = torch.arange(28.0) - 13.5
    rows, columns = ink.sum(dim=2), ink.sum(dim=1)
    y, x = rows @ place, columns @ place
    yy, xx = rows @ place.square() - y.square(), columns @ place.square() - x.square()
    yx = torch.einsum("nij,i,j->n", ink, place, place) - y * x
    half, root = (yy + xx) / 2, (((yy - xx) / 2).square() + yx.square()).sqrt()
    return (half - root).clamp(min=0).sqrt() < STICK * (half + root).sqrt()


def clear(drawn: Drawn) -> Drawn:
    """Without what is labelled as no digit and may as well be a 1."""
    unclear = (drawn.labels == NONE) & sticks(torch.from_numpy(drawn.images)).numpy()
    return Drawn(*(array[~unclear] for array in drawn))


def train(mnist: Digits, drawn: list[Drawn], seed: int) -> DigitNet:
    """The detector, in evaluation mode: an EMA of the weights that were trained."""
    hands, of_hands = drawn_digits(OTHERS, seed=SEEDS[0])
    others = torch.cat([characters(OTHERS, seed), pairs(PAIRS, seed, mnist)])
    others = others[~sticks(others)]
    plain = torch.cat([mnist[0], hands, others])
    labels = torch.cat([mnist[1], of_hands, torch.full((len(others),), NONE)])
    found = torch.from_numpy(np.concatenate([some.images for some in drawn]))
    labels = torch.cat([labels, torch.from_numpy(np.concatenate([some.labels for some in drawn]))])
    torch.manual_seed(seed)
    recipe = yaml.safe_load((ROOT / "configs" / "reader.yaml").read_text())["data"]
    augmentation, strokes = Augmentation(**recipe["augmentation"]), Strokes(**recipe["strokes"])
    # What was found on a page has its noise already.
    mildly = Augmentation(degrees=6, translate=0.03, scale=0.06, shear=4, brightness=0, contrast=0)
    network = DigitNet(NARROW, WIDE, margin=2, classes=NONE + 1)
    optimizer = Muon(network.parameters(), lr=MUON_LR, adam_lr=ADAM_LR)
    ema = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA), use_buffers=True
    )
    steps = EPOCHS * (len(labels) // BATCH)
    for step in range(steps):
        if step % (steps // EPOCHS) == 0:
            print(f"{time.strftime('%H:%M:%S')} epoch {step * EPOCHS // steps}", flush=True)
            order = torch.randperm(len(labels))
        some = order[step % (steps // EPOCHS) * BATCH :][:BATCH].sort().values
        first, second = some[some < len(plain)], some[some >= len(plain)] - len(plain)
        images = torch.cat([strokes(augmentation(plain[first] / 255)), mildly(found[second] / 255)])
        done = step / steps
        rise = min(done / WARM_UP, (1 - done) / (1 - WARM_UP))
        for group, lr in zip(optimizer.param_groups, (MUON_LR, ADAM_LR), strict=True):
            group["lr"] = lr * rise
        loss = F.cross_entropy(network(images), labels[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update_parameters(network)
    network.load_state_dict(ema.module.state_dict())
    return network.eval()


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """By which logits are divided for the least cross-entropy, to a twentieth."""
    return min(
        (step / 20 for step in range(10, 80)),
        key=lambda t: float(F.cross_entropy(logits / t, labels)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=Path, metavar="FOLDER", help="of what is drawn")
    parser.add_argument("--keep", action="store_true", help="measure the detector there is")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    most, twentieth = mnist_digits()
    if not args.keep:
        drawn = [kept(args.examples, IMAGES, seed, most) for seed in SEEDS]
        detector = train(most, drawn, args.seed)
        torch.save(
            {"state_dict": detector.state_dict(), "hyper_parameters": detector.settings},
            ASSETS / "detector.pt",
        )
        export(detector, "onnx", ASSETS / "detector.onnx")
        export(load_pretrained(), "onnx", ASSETS / "digitnet.onnx")
    measure(kept(args.examples, *KEPT_BACK, twentieth), twentieth)


def measure(drawn: Drawn, mnist: Digits) -> None:
    """The temperature, `least` and the curve, of what the detector was not trained on."""
    hands, of_hands = drawn_digits(3000, seed=KEPT_BACK[1])
    images = torch.cat([torch.from_numpy(drawn.images), hands, mnist[0]]) / 255
    labels = torch.cat([torch.from_numpy(drawn.labels), of_hands, mnist[1]])
    nothing_there = np.concatenate([drawn.kinds == "nothing", np.zeros(len(hands) + len(mnist[0]))])
    none, digit = torch.from_numpy(nothing_there) > 0, labels != NONE
    network = load_pretrained()
    with torch.inference_mode():
        logits = torch.cat([network(some) for some in images.split(500)])
    others = digit.clone()
    others[-len(mnist[0]) :] = False
    temperature = best_temperature(logits[others], labels[others])
    run = judge(network)  # with the temperature that sureness.py has
    judged = torch.cat([torch.from_numpy(run(some[:, 0].numpy())) for some in images.split(500)])
    sureness, right = judged[:, 10], judged[:, :10].argmax(dim=1) == labels
    softmax = logits.softmax(dim=1).amax(dim=1)
    least = round(float(torch.quantile(sureness[right], MARKED)), 3)
    result = {
        "examples": len(images),
        "temperature": temperature,
        "least": least,
        "marked": _share(sureness[right] < least),
        "nothing_refused": _share(sureness[none] < least),
        "no_single_digit_refused": _share(sureness[~digit] < least),
        "by_softmax": _share(softmax[none] < torch.quantile(softmax[right], MARKED)),
        "curve": curve(sureness[digit], right[digit]),
    }
    save("sureness", result)
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
