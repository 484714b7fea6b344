"""How much is read of what MNIST's test set does not have: other writers' digits, photos, pages.

    python benchmarks/wild.py [--ckpt PATH] [--count 500] [--pages 100] [FOLDER ...]

Four kinds of source, each image read as predict reads a file: scikit-learn's digits (1,797 of the
UCI repository, 8 x 8, as they are and enlarged; needs pip install scikit-learn); the disguises and
the pages that the tests draw from every twentieth test digit, and things that are no digits
(tests/disguises.py, tests/pages.py); and any FOLDER of images named LABEL_name.png, where LABEL is
the number that stands there, or n for none. Right is the whole number, for n a mark of uncertainty.
The result, without FOLDER, is benchmarks/results/wild.json.
"""

import argparse
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from record import save

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from disguises import DISGUISES, encoded
from nodigits import nothing
from pages import PAGES

from mnist_lit.assets import test_digits
from mnist_lit.images import FORMATS, SUFFIXES
from mnist_lit.reading import read_digits
from mnist_lit.sureness import Judge, load_judge

SURE = 0.95  # a wrong answer at this probability, not marked, is the worst
Source = tuple[str, list[bytes], list[str]]  # name, image files, what stands there


def sources(count: int, pages: int) -> Iterator[Source]:
    """What this project draws itself, and scikit-learn's digits if they are there."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        print("scikit-learn's digits are left out: pip install scikit-learn", file=sys.stderr)
    else:
        digits = load_digits()
        labels = [str(label) for label in digits.target]
        small = [Image.fromarray((15 * image).astype(np.uint8)) for image in digits.images]
        yield "scikit-learn, 8 x 8", [encoded(image) for image in small], labels
        smooth = [image.resize((64, 64), Image.Resampling.BICUBIC) for image in small]
        yield "scikit-learn, enlarged", [encoded(image) for image in smooth], labels
    random = np.random.default_rng(0)
    images, classes = test_digits()
    mnist = [
        (Image.fromarray(image.numpy()), int(label))
        for image, label in zip(images[::20, 0], classes[::20], strict=True)
    ]
    some = mnist[: min(count, len(mnist))]
    for name, render in DISGUISES.items():
        yield (
            f"disguises: {name}",
            [render(digit, random) for digit, _ in some],
            [str(label) for _, label in some],
        )
    for name, draw in PAGES.items():
        drawn = [
            draw([mnist[(7 * i + j) % len(mnist)] for j in range(6)], random) for i in range(pages)
        ]
        yield f"pages: {name}", [encoded(page.image) for page in drawn], [p.number for p in drawn]
    yield "no digit, marked", [encoded(nothing(random)) for _ in range(pages)], ["n"] * pages


def folder_source(folder: Path) -> Source:
    files = sorted(path for path in folder.rglob("*_*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise SystemExit(f"{folder}: no image named LABEL_name ({', '.join(FORMATS)})")
    labels = [path.name.split("_")[0] for path in files]
    return str(folder), [path.read_bytes() for path in files], labels


def measure(judge: Judge, files: list[bytes], labels: list[str]) -> dict[str, int]:
    counts = {"images": len(files), "right": 0, "marked": 0, "sure_wrong": 0}
    readings = read_digits(judge, map(io.BytesIO, files))
    for reading, label in zip(readings, labels, strict=True):
        if isinstance(reading, Exception):
            counts["marked"] += 1
            counts["right"] += label == "n"
            continue
        right = reading.uncertain if label == "n" else reading.number == label
        counts["right"] += right
        counts["marked"] += reading.uncertain
        sure = not reading.uncertain and reading.least.probability >= SURE
        counts["sure_wrong"] += sure and not right
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--ckpt", help="weights instead of the shipped ones")
    parser.add_argument("--count", type=int, default=500, help="digits of each disguise")
    parser.add_argument("--pages", type=int, default=100, help="pages of each kind")
    args = parser.parse_args()
    judge = load_judge(args.ckpt)
    result = {}
    print(f"{'source':34}{'images':>7}{'right':>10}{'marked':>8}{'sure, wrong':>13}")
    own = () if args.folders else sources(args.count, args.pages)
    for name, files, labels in (*own, *map(folder_source, args.folders)):
        counts = result[name] = measure(judge, files, labels)
        share = 100 * counts["right"] / counts["images"]
        print(
            f"{name:34}{counts['images']:7}{share:8.1f} %{counts['marked']:8}"
            f"{counts['sure_wrong']:13}",
            flush=True,
        )
    if not args.folders:
        save("wild", {"sources": result}, ckpt=args.ckpt, count=args.count, pages=args.pages)


if __name__ == "__main__":
    main()
