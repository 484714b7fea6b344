"""Reads the digit in image files: `python -m mnist_lit.predict FILE ... [--ckpt PATH] [--json]`.

Start-up is short on purpose: nothing here imports Lightning or torchvision.
"""

import argparse
import glob
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from mnist_lit import load_pretrained
from mnist_lit.files import written_whole
from mnist_lit.images import SUFFIXES, UnreadableImageError, open_image
from mnist_lit.ink import Array, prepare
from mnist_lit.network import Network
from mnist_lit.weights import load_network

BATCH = 256


class Reading(NamedTuple):
    """What the network made of one image."""

    pixels: Array  # (28, 28) in [0, 1], what the network saw
    probabilities: list[float]  # of the digits 0 to 9

    def top(self, number: int) -> list[tuple[int, float]]:
        """The likeliest digits with their probabilities, best first."""
        return sorted(enumerate(self.probabilities), key=lambda pair: -pair[1])[:number]


def read_digits(network: Network, files: Iterable[Any]) -> Iterator[Reading | Exception]:
    """Image files (paths or binary file objects) -> what each shows, in their order, in batches.

    A file that cannot be read gives its UnreadableImageError or OSError instead of a Reading.
    """
    remaining = iter(files)
    # Decoding and resizing leave the interpreter free. Each may take 400 MB for the largest file.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        while chunk := list(islice(remaining, BATCH)):
            prepared = list(pool.map(_prepare_file, chunk))
            images = [item for item in prepared if isinstance(item, np.ndarray)]
            readings = iter(classify(network, images))
            for item in prepared:
                yield next(readings) if isinstance(item, np.ndarray) else item


def classify(network: Network, images: list[Array]) -> list[Reading]:
    """Prepared images (28, 28) -> what the network reads in each."""
    if not images:
        return []
    batch = torch.from_numpy(np.stack(images)).unsqueeze(1)
    with torch.inference_mode():
        probabilities = network(batch).softmax(dim=1)
    return [Reading(*pair) for pair in zip(images, probabilities.tolist(), strict=True)]


def _prepare_file(file: Any) -> Array | Exception:
    try:
        return prepare(open_image(file))
    except (UnreadableImageError, OSError) as error:
        return error


def find_files(names: list[str]) -> list[str]:
    """Files as they are; folders and patterns as the image files in them, sorted.

    Raises:
        ValueError: A folder or pattern without an image file.
    """
    files: list[str] = []
    for name in names:
        if Path(name).is_dir():
            found = sorted(str(path) for path in Path(name).iterdir())
        elif glob.has_magic(name) and not Path(name).exists():
            found = sorted(glob.glob(name, recursive=True))
        else:
            files.append(name)
            continue
        images = [path for path in found if path.lower().endswith(SUFFIXES)]
        if not images:
            raise ValueError(f"FILE {name}: no image file ({' '.join(SUFFIXES)}) there")
        files += images
    return files


def save_input(folder: Path, file: str, pixels: Array, taken: set[str]) -> None:
    """Write what the network saw as folder/STEM.png; STEM-2.png and so on if the stem is taken."""
    stem = Path(file).stem
    name = next(n for i in count(1) if (n := stem if i == 1 else f"{stem}-{i}") not in taken)
    taken.add(name)
    with written_whole(folder / f"{name}.png") as partial:
        Image.fromarray((pixels * 255).round().astype(np.uint8)).save(partial)


def as_json(file: str, result: Reading | Exception, number: int) -> str:
    if isinstance(result, Exception):
        return json.dumps({"file": file, "error": explain(result)})
    top = [(digit, round(probability, 6)) for digit, probability in result.top(number)]
    return json.dumps({"file": file, "digit": top[0][0], "probability": top[0][1], "top": top})


def as_line(file: str, result: Reading, number: int) -> str:
    """`seven.png  7  98.21 %   then 1  1.20 %`"""
    first, *others = (f"{d}  {100 * p:5.2f} %" for d, p in result.top(number))
    return f"{file}  {first}" + "".join(f"   then {other}" for other in others)


def explain(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m mnist_lit.predict",
        usage="python -m mnist_lit.predict FILE ... [options]",
        description="Read the digit in image files.",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="image file, folder of image files, or pattern"
    )
    parser.add_argument(
        "--ckpt", metavar="PATH", help="training checkpoint to use instead of the shipped weights"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument(
        "--top", type=int, default=2, metavar="K", help="how many digits to name, best first (2)"
    )
    parser.add_argument(
        "--save-inputs", type=Path, metavar="DIR", help="write the 28 x 28 images the network saw"
    )
    args = parser.parse_args()
    if not 1 <= args.top <= 10:
        parser.error(f"--top must be from 1 to 10, not {args.top}")
    try:
        files = find_files(args.files)
    except ValueError as error:
        parser.error(str(error))
    try:
        network = load_network(args.ckpt) if args.ckpt else load_pretrained()
    except (OSError, ValueError) as error:
        parser.error(f"--ckpt {args.ckpt}: {explain(error)}")
    try:
        if args.save_inputs:
            args.save_inputs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--save-inputs {args.save_inputs}: {explain(error)}")
    # Of files over MAX_PIXELS, which get an error line of their own.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    failed, taken = False, set[str]()
    results: Iterable[tuple[str, Reading | Exception]] = zip(
        files, read_digits(network, files), strict=True
    )
    if len(files) > BATCH and sys.stderr.isatty():
        results = tqdm(results, total=len(files), unit=" files", delay=1, leave=False)
    for file, result in results:
        failed |= isinstance(result, Exception)
        if args.json:
            print(as_json(file, result, args.top))
        elif isinstance(result, Exception):
            print(f"error: {file}: {explain(result)}", file=sys.stderr)
        else:
            print(as_line(file, result, args.top))
        if args.save_inputs and isinstance(result, Reading):
            try:
                save_input(args.save_inputs, file, result.pixels, taken)
            except OSError as error:
                sys.exit(f"error: --save-inputs {args.save_inputs}: {explain(error)}")
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
