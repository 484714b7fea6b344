"""How near the page's own preparation of photos is to Python's.

    python benchmarks/page.py [--count 12] [--pages 5]

Each disguise of a test digit and each kind of page that the tests draw is read by the scripts of
the page, in V8, and by Python. Writes benchmarks/results/page.json.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from record import save

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from disguises import DISGUISES, encoded
from pages import PAGES
from test_bundle import number_of, opened, prepared

from mnist_lit import load_pretrained
from mnist_lit.assets import test_digits


def drawn(count: int, pages: int) -> dict[str, list[tuple[bytes, str]]]:
    """Image files with what stands on them, by their kind."""
    images, labels = test_digits()
    random = np.random.default_rng(5)

    def digit() -> tuple[Image.Image, int]:
        i = int(random.integers(len(images)))
        return Image.fromarray(images[i, 0].numpy()), int(labels[i])

    found: dict[str, list[tuple[bytes, str]]] = {"disguises": [], "pages": []}
    for disguise in DISGUISES.values():
        for image, label in (digit() for _ in range(count)):
            found["disguises"].append((disguise(image, random), str(label)))
    for page in PAGES.values():
        for _ in range(pages):
            image, number, _ = page([digit() for _ in range(6)], random)
            found["pages"].append((encoded(image), number))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=12, help="digits of each disguise")
    parser.add_argument("--pages", type=int, default=5, help="pages of each kind")
    args = parser.parse_args()
    page, result = opened(load_pretrained()), {}
    for kind, files in drawn(args.count, args.pages).items():
        counts = {"images": len(files), "same": 0, "page_right": 0, "python_right": 0}
        differences = []
        for file, truth in files:
            lines, reading = prepared(page, file)
            of_page, of_python = number_of(lines), reading.number if reading else ""
            counts["same"] += of_page == of_python
            counts["page_right"] += of_page == truth
            counts["python_right"] += of_python == truth
            if len(of_page) == len(of_python) == 1:
                pixels = np.array(lines[0][0]["pixels"]).reshape(28, 28)
                differences.append(float(np.abs(pixels - reading.least.pixels).mean()))
        result[kind] = counts | {"pixels": float(np.mean(differences))}
        print(kind, result[kind], flush=True)
    save("page", result, count=args.count, pages=args.pages)


if __name__ == "__main__":
    main()
