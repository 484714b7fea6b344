"""What the network reads on a page: of all layouts, the one whose digits are likeliest.

A number gets a second opinion: the page network (detector.py) finds the digits of the page, too. If
the two do not read the same number, the answer is uncertain unless the page network is certain.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mnist_lit.detector import find_places
from mnist_lit.images import UnreadableImageError, open_image
from mnist_lit.ink import Array, Box, Colors, digit_ink
from mnist_lit.page import Found, Layout, layouts
from mnist_lit.sureness import LEAST, Judge, softmax

BATCH = 256  # files that are prepared and then read together
DOUBTFUL, SURE = 0.05, 0.5  # what is less sure may be left out beside what is surer
WHOLE = 0.1  # what is less sure may be digits that touch
PARTS = 0.9  # if its parts are as sure
UPRIGHT = 0.5  # a digit that is less sure is also looked at from either side
TURNED = 0.95  # and taken for turned if it is as sure then
FOUND = 0.3  # the score of a place from which on the page network has found a digit
CERTAIN = 0.5  # its confidence in all digits from which on its number is certain
PREFERRED = 0.35  # and from which on its number is given where the two differ


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


class Sight(NamedTuple):
    """The digits that the page network finds."""

    found: list[Found]
    opinions: Array  # (N, 10): of each, the probability that it is a digit and this one


class Page(NamedTuple):
    """An image, looked at but not yet read."""

    layouts: list[Layout]
    sight: Sight  # nothing where no layout has several digits
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
    ways = layouts(image, single)
    several = not single and any(len(layout.digits) > 1 for layout in ways)
    sight = see(np.asarray(image)) if several else Sight([], np.empty((0, 10), np.float32))
    return Page(ways, sight, zoom, image.info.get("frames", 1))


def see(colors: Colors) -> Sight:
    """(H, W, 3) RGB -> the digits that the page network finds."""
    found, opinions, missed = [], [], 0.0
    for place in find_places(colors):
        pixels = digit_ink(colors, place.box) if place.score >= FOUND else None
        if pixels is None:
            missed = max(missed, place.score)
            continue
        left, top, right, bottom = (round(float(edge)) for edge in place.box)
        height, width = colors.shape[:2]
        box = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        found.append(Found(pixels, box))
        opinions.append(place.score * softmax(place.logits[None])[0])
    return Sight(found, (1 - missed) * np.array(opinions, np.float32).reshape(-1, 10))


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
        if len(rows) == len(rows[0]) == 1:
            if turned and rows[0][0].sureness < UPRIGHT:
                rows = [[_turned(judge, rows[0][0])]]
        else:
            rows = _second_opinion(judge, rows, page.sight)
        yield Reading([[_scaled(digit, page.zoom) for digit in row] for row in rows], page.frames)


def _second_opinion(judge: Judge, rows: list[list[Digit]], sight: Sight) -> list[list[Digit]]:
    """Compare a number with that of the page network, whose digits the classifier sees, too.

    A digit's confidence is the probability that the page network gives it, as far as both networks
    agree on it; what may be a digit that was left out lowers all of them.
    """
    seen = []
    for digit, opinion in zip(classify(judge, sight.found), sight.opinions, strict=True):
        both = np.array(digit.probabilities) * opinion
        probabilities = (both / max(float(both.sum()), 1e-30)).tolist()
        sureness = min(float(opinion.max()), float(opinion.sum()) * max(probabilities))
        seen.append(
            digit._replace(
                probabilities=probabilities, sureness=sureness, uncertain=sureness < CERTAIN
            )
        )
    lines = in_lines(seen)
    if [[one.digit for one in line] for line in lines] == [[one.digit for one in r] for r in rows]:
        return rows
    if len(seen) > 1 and _least(seen) >= PREFERRED:
        return lines
    return [[digit._replace(uncertain=True) for digit in row] for row in rows]


def in_lines(digits: list[Digit]) -> list[list[Digit]]:
    """Sort digits into lines from top to bottom, and each line from left to right."""
    rows: list[list[Digit]] = []

    def middle(digit: Digit) -> float:
        return (digit.box[1] + digit.box[3]) / 2

    for digit in sorted(digits, key=middle):
        if rows:  # a line may rise, so its nearest digits tell whether this one stands in it
            near = sorted(rows[-1], key=lambda other: abs(other.box[0] - digit.box[0]))[:2]
            height = float(np.median([one.box[3] - one.box[1] for one in [*near, digit]]))
            if middle(digit) - np.mean([middle(one) for one in near]) < 0.6 * height:
                rows[-1].append(digit)
                continue
        rows.append([digit])
    return [sorted(row, key=lambda one: one.box[0] + one.box[2]) for row in rows]


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
