"""What the network reads on a page: of all layouts, the one whose digits are likeliest."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mnist_lit.images import UnreadableImageError, open_image
from mnist_lit.ink import Array, Box
from mnist_lit.page import Found, Layout, layouts
from mnist_lit.sureness import LEAST, Judge

BATCH = 256  # files that are prepared and then read together
DOUBTFUL, SURE = 0.05, 0.5  # what is less sure may be left out beside what is surer
WHOLE = 0.1  # what is less sure may be digits that touch
PARTS = 0.9  # if its parts are as sure
UPRIGHT = 0.5  # a digit that is less sure is also looked at from either side
TURNED = 0.95  # and taken for turned if it is as sure then


class Digit(NamedTuple):
    """What the network made of one digit."""

    pixels: Array  # (28, 28) in [0, 1], what the network saw
    probabilities: list[float]  # of the digits 0 to 9
    box: Box  # in the image's own pixels, upright
    sureness: float  # that this is a digit and read right, in [0, 1]
    uncertain: bool  # not vouched for

    def top(self, number: int) -> list[tuple[int, float]]:
        """The likeliest digits with their probabilities, best first."""
        return sorted(enumerate(self.probabilities), key=lambda pair: -pair[1])[:number]

    @property
    def digit(self) -> int:
        return self.top(1)[0][0]

    @property
    def probability(self) -> float:
        return max(self.probabilities)


class Reading(NamedTuple):
    """What stands in one image."""

    rows: list[list[Digit]]  # from top to bottom, each from left to right
    frames: int = 1  # pages or pictures of the file; the first is read

    @property
    def digits(self) -> list[Digit]:
        return [digit for row in self.rows for digit in row]

    @property
    def lines(self) -> list[str]:
        return ["".join(str(digit.digit) for digit in row) for row in self.rows]

    @property
    def number(self) -> str:
        return "".join(self.lines)

    @property
    def least(self) -> Digit:
        """The digit that is least sure."""
        return min(self.digits, key=lambda digit: digit.sureness)

    @property
    def uncertain(self) -> bool:
        return self.least.uncertain


class Page(NamedTuple):
    """An image, looked at but not yet read."""

    layouts: list[Layout]
    zoom: float  # from the pixels that were looked at to the image's own
    frames: int


def read_digits(
    judge: Judge, files: Iterable[Any], single: bool = False, turned: bool = True
) -> Iterator[Reading | Exception]:
    """Image files (paths or binary file objects) -> what each shows, in their order, in batches.

    A file that cannot be read gives its UnreadableImageError or OSError instead of a Reading.

    Args:
        judge: Of sureness.py: shipped() or judge(network).
        files: As they come; a generator is not read far ahead.
        single: Each image shows one digit.
        turned: One digit may lie on its side.
    """
    remaining = iter(files)

    def look_at_file(file: Any) -> Page | Exception:
        try:
            return look(open_image(file), single)
        except (UnreadableImageError, OSError) as error:
            return error

    # Decoding and resizing leave the interpreter free. Each may take 400 MB for the largest file.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        while chunk := list(islice(remaining, BATCH)):
            pages = list(pool.map(look_at_file, chunk))
            readings = read(judge, [page for page in pages if isinstance(page, Page)], turned)
            for page in pages:
                yield next(readings) if isinstance(page, Page) else page


def look(image: Image.Image, single: bool = False) -> Page:
    """An RGB image -> the ways in which it can be taken.

    Raises:
        UnreadableImageError: Nothing stands out from the paper.
    """
    zoom = image.info.get("full_size", image.size)[0] / image.width
    return Page(layouts(image, single), zoom, image.info.get("frames", 1))


def read(judge: Judge, pages: list[Page], turned: bool = True) -> Iterator[Reading]:
    """Pages -> what the network reads on each."""
    found = [digit for page in pages for layout in page.layouts for digit in layout.digits]
    digits = iter(_cut(judge, found, classify(judge, found)))
    for page in pages:
        ways = []
        for layout in page.layouts:
            rows = [[one for _ in line for one in next(digits)] for line in layout.lines]
            ways.append((rows, layout.cost))
            if fewer := _without_doubtful(rows):
                ways.append((fewer, layout.cost + 0.5))
        rows = max(ways, key=lambda way: _worth(*way))[0]
        if turned and rows[0][0].sureness < UPRIGHT and len(rows) == len(rows[0]) == 1:
            rows = [[_turned(judge, rows[0][0])]]
        yield Reading([[_scaled(digit, page.zoom) for digit in row] for row in rows], page.frames)


def _cut(judge: Judge, found: list[Found], digits: list[Digit]) -> list[list[Digit]]:
    """Each as it is, or cut, if it is hardly a digit and its parts surely are."""
    doubtful = [
        one.ways if digit.sureness < WHOLE else () for one, digit in zip(found, digits, strict=True)
    ]
    parts = iter(classify(judge, [part for ways in doubtful for way in ways for part in way]))
    result = []
    for digit, ways in zip(digits, doubtful, strict=True):
        best = max(([next(parts) for _ in way] for way in ways), key=_least, default=[digit])
        result.append(best if _least(best) > PARTS else [digit])
    return result


def _least(digits: list[Digit]) -> float:
    return min(digit.sureness for digit in digits)


def _worth(rows: list[list[Digit]], cost: float) -> float:
    """How good a layout is: how sure its least sure digit is, and how many there are if all are."""
    digits = [digit for row in rows for digit in row]
    least = _least(digits)  # between doubtful ones the plainer is taken
    return float(np.log(least + DOUBTFUL) + (np.log(len(digits)) if least > SURE else 0)) - cost


def _without_doubtful(rows: list[list[Digit]]) -> list[list[Digit]]:
    """Rows without what is hardly a digit beside what surely is: crossed out, letters, marks."""
    rest = [digit for row in rows for digit in row if digit.sureness > DOUBTFUL]
    if not rest or min(digit.sureness for digit in rest) < SURE:
        return []
    fewer = [[digit for digit in row if digit.sureness > DOUBTFUL] for row in rows]
    return [row for row in fewer if row] if fewer != rows else []


def _turned(judge: Judge, digit: Digit) -> Digit:
    """A digit turned by a quarter, if it is clearly one then, else as it was."""
    turned = [Found(np.rot90(digit.pixels, turns).copy(), digit.box) for turns in (1, 3)]
    best = max(classify(judge, turned), key=lambda one: one.sureness)
    return best if best.sureness > TURNED else digit


def _scaled(digit: Digit, zoom: float) -> Digit:
    left, top, right, bottom = (round(zoom * edge) for edge in digit.box)
    return digit._replace(box=(left, top, right, bottom))


def classify(judge: Judge, found: list[Found]) -> list[Digit]:
    """What may be digits -> what the network makes of each."""
    digits = []
    for start in range(0, len(found), 2 * BATCH):
        some = found[start : start + 2 * BATCH]
        digits += [
            Digit(one.pixels, p[:10], one.box, p[10], p[10] < LEAST)
            for one, p in zip(
                some, judge(np.stack([digit.pixels for digit in some])).tolist(), strict=True
            )
        ]
    return digits
