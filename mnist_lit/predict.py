"""Classifies the digits in image files: `python -m mnist_lit.predict FILE ... [--json]`.

Start-up is short on purpose: nothing here imports torch, unless --ckpt is given.
"""

import argparse
import glob
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from mnist_lit.errors import command, explain, printable
from mnist_lit.files import free_path, last_or_best, written_whole
from mnist_lit.images import SUFFIXES, open_image
from mnist_lit.reading import BATCH, Reading, read_digits
from mnist_lit.sureness import load_judge


def find_files(names: list[str]) -> tuple[list[str], list[str]]:
    """Files as they are; folders and patterns as the image files in them, sorted.

    A folder without image files gives those of the folders in it, as 0 to 9 of one's own digits.

    Returns:
        The files, and a note for each folder or pattern in which others are left out.

    Raises:
        ValueError: A folder or pattern without an image file.
    """
    files: list[str] = []
    notes: list[str] = []
    for name in names:
        if Path(name).is_dir():
            found = sorted(str(path) for path in Path(name).iterdir())
            if not any(path.lower().endswith(SUFFIXES) for path in found):
                found = sorted(str(path) for path in Path(name).glob("**/*"))
        elif glob.has_magic(name) and not Path(name).exists():
            found = sorted(glob.glob(name, recursive=True))
        else:
            files.append(name)
            continue
        images = [path for path in found if path.lower().endswith(SUFFIXES)]
        if not images:
            raise ValueError(f"FILE {name}: no image file ({' '.join(SUFFIXES)}) there")
        files += images
        others = [Path(path).suffix for path in set(found) - set(images) if Path(path).is_file()]
        if others:
            kinds = ", ".join(
                f"{number} {suffix or 'without a suffix'}"
                for suffix, number in sorted(Counter(others).items())
            )
            notes.append(f"{name}: {len(others)} skipped by their names: {kinds}")
    return files, notes


def save(image: Image.Image, path: Path) -> None:
    with written_whole(path) as partial:
        image.save(partial)


def make_folder(parser: argparse.ArgumentParser, flag: str, folder: Path | None) -> None:
    try:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"{flag} {folder}: {explain(error)}")


def save_inputs(folder: Path, file: str, reading: Reading, taken: set[Path]) -> None:
    """Write what the network saw: STEM.png, of several digits STEM_1.png, STEM_2.png, ..."""
    for number, digit in enumerate(reading.digits, 1):
        name = Path(file).stem + (f"_{number}" if len(reading.digits) > 1 else "")
        pixels = (digit.pixels * 255).round().astype(np.uint8)
        save(Image.fromarray(pixels), free_path(folder, name, taken))


def annotated(file: str, reading: Reading) -> Image.Image:
    """The image with a box around each digit and what was read above it, red where unsure."""
    image = open_image(file)
    zoom = image.width / image.info["full_size"][0]
    if max(image.size) < 400:  # room for something to read
        by = -(-400 // max(image.size))
        image, zoom = image.resize((by * image.width, by * image.height), 0), by * zoom
    draw = ImageDraw.Draw(image)
    for digit in reading.digits:
        left, top, right, bottom = (round(zoom * edge) for edge in digit.box)
        color = "#e00000" if digit.uncertain else "#008000"
        size = max(14, min(bottom - top, max(image.size) // 8) // 2)
        draw.rectangle((left - 2, top - 2, right + 1, bottom + 1), outline=color, width=2)
        text = f"{digit.digit}{'?' if digit.uncertain else ''}"
        at = (max(left, 0), max(top - 3 - size, 0))
        font = ImageFont.load_default(size)
        draw.text(at, text, fill=color, font=font, stroke_width=1, stroke_fill="white")
    return image


def as_json(file: str, result: Reading | Exception, number: int) -> str:
    """One line of JSON; of one digit with its `top`, of several with all of them."""
    if isinstance(result, Exception):
        return json.dumps({"file": file, "error": explain(result)})
    least = result.least
    answer: dict[str, Any] = {"file": file}
    if len(result.digits) == 1:
        top = [(digit, round(probability, 6)) for digit, probability in least.top(number)]
        answer |= {"digit": top[0][0], "probability": top[0][1], "top": top}
        answer |= {"number": result.number}
    else:
        answer |= {"number": result.number, "probability": round(least.probability, 6)}
        answer["lines"] = result.lines
        answer["digits"] = [
            {"digit": one.digit, "probability": round(one.probability, 6), "box": one.box}
            for one in result.digits
        ]
    return json.dumps(answer | ({"uncertain": True} if result.uncertain else {}))


def as_line(file: str, result: Reading, number: int) -> str:
    """`seven.png  7  98.21 %   then 1  1.20 %`, `page.jpg  19773  97.10 %   digit 4: 7 then 1 ...`

    Of several digits the least sure one is told of. A `?` stands behind what is not vouched for.
    """
    least = result.least
    (_, probability), *others = least.top(number)
    which = ""
    if len(result.digits) > 1:
        place = next(i for i, digit in enumerate(result.digits, 1) if digit is least)
        which = f"   digit {place}: {least.digit}" if others else ""
    return (
        f"{printable(file)}  {' '.join(result.lines)}{'?' * result.uncertain}"
        f"  {100 * probability:5.2f} %{which}"
        + "".join(f"   then {digit}  {100 * p:5.2f} %" for digit, p in others)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=command("predict"),
        usage="%(prog)s FILE ... [options]",
        description="Classify the digits in image files.",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="image file, folder of image files, or pattern"
    )
    parser.add_argument(
        "--ckpt",
        "--ckpt_path",
        type=last_or_best,
        metavar="PATH",
        help="training checkpoint to use instead of the shipped weights",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument(
        "--top", type=int, default=2, metavar="K", help="how many digits to name, best first (2)"
    )
    parser.add_argument(
        "--single", action="store_true", help="each image shows one digit, whatever else is on it"
    )
    parser.add_argument(
        "--annotate",
        type=Path,
        metavar="DIR",
        help="write the images with boxes and digits drawn in",
    )
    parser.add_argument(
        "--save-inputs", type=Path, metavar="DIR", help="write the 28 x 28 images the network saw"
    )
    args = parser.parse_args(arguments)
    if not 1 <= args.top <= 10:
        parser.error(f"--top must be from 1 to 10, not {args.top}")
    try:
        files, notes = find_files(args.files)
    except ValueError as error:
        parser.error(str(error))
    try:
        judge = load_judge(args.ckpt)
    except (OSError, ValueError) as error:
        parser.error(f"--ckpt {args.ckpt}: {explain(error)}")
    make_folder(parser, "--save-inputs", args.save_inputs)
    make_folder(parser, "--annotate", args.annotate)
    for note in notes:
        print(f"note: {printable(note)}", file=sys.stderr)
    failed, taken = False, set[Path]()
    results: Iterable[tuple[str, Reading | Exception]] = zip(
        files, read_digits(judge, files, args.single), strict=True
    )
    if len(files) > BATCH and sys.stderr.isatty():
        results = tqdm(results, total=len(files), unit=" files", delay=1, leave=False)
    for file, result in results:
        failed |= isinstance(result, Exception)
        if args.json:
            print(as_json(file, result, args.top))
        elif isinstance(result, Exception):
            print(f"error: {printable(file)}: {explain(result)}", file=sys.stderr)
        else:
            print(as_line(file, result, args.top))
        if isinstance(result, Exception):
            continue
        if result.frames > 1:
            note = f"the first of {result.frames} pages was read"
            print(f"note: {printable(file)}: {note}", file=sys.stderr)
        flag = ""
        try:
            if args.save_inputs:
                flag = f"--save-inputs {args.save_inputs}"
                save_inputs(args.save_inputs, file, result, taken)
            if args.annotate:
                flag = f"--annotate {args.annotate}"
                path = free_path(args.annotate, Path(file).stem, taken)
                save(annotated(file, result), path)
        except OSError as error:
            sys.exit(f"error: {flag}: {explain(error)}")
    raise SystemExit(int(failed))


if __name__ == "__main__":
    from mnist_lit.__main__ import guarded

    guarded(main)
