"""Where the digits are on a page: an image -> its possible readings, each a few lines of digits.

The order is that of document readers: the sheet first (or the inside of a printed frame), then
lines set aside, then connected parts, then which of them are digits, then lines of digits. Where a
page can be taken in several ways, each is a layout, and the network is asked about all of them.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from mnist_lit.images import UnreadableImageError
from mnist_lit.ink import (
    SEEN_AT,
    SQUARE,
    Array,
    Box,
    Mask,
    around,
    as_mnist,
    box_of,
    find_ink,
    large_parts,
    whole,
)
from mnist_lit.seams import cuts, is_wide
from mnist_lit.views import PAGE_AT, View, flattened, panels, view_of, without_lines

MAX_DIGITS = 60  # on a page; with more it is text or a picture
MAX_PARTS = 150  # the largest, of which one looks for digits


class Found(NamedTuple):
    """What may be a digit."""

    pixels: Array  # (28, 28) in [0, 1], as MNIST shows it
    box: Box  # in the image that was given
    ways: tuple[tuple["Found", ...], ...] = ()  # to cut it, if it may be digits that touch


class Layout(NamedTuple):
    """One way to take a page."""

    lines: list[list[Found]]
    cost: float  # how much likelier its digits must be than those of another, in logarithms
    name: str  # what was done, for whoever looks into it

    @property
    def digits(self) -> list[Found]:
        return [found for line in self.lines for found in line]


def layouts(image: Image.Image, single: bool = False) -> list[Layout]:
    """An RGB image -> how its digits may lie, the plainest first.

    Args:
        single: The image shows one digit, whatever else is on it.

    Raises:
        UnreadableImageError: Nothing stands out from the paper.
    """
    page = view_of(np.asarray(image))
    found = _of_view(page, 0.0, "whole")
    tidy = len(found) == 1
    for i, view in enumerate(panels(page)):
        found += _of_view(view, i - 0.7, "panel")
    if (not tidy or _wide(found[0])) and (unlined := without_lines(page)):
        found += _of_view(*unlined, "unlined")
    if not tidy:
        found += _of_view(flattened(page), 0.5, "flattened")
    if not found:
        raise UnreadableImageError("blank: nothing stands out from the paper")
    if single:
        found = [layout for layout in found if len(layout.digits) == 1] or found[:1]
        return [layout._replace(lines=[[layout.digits[0]._replace(ways=())]]) for layout in found]
    return found


def _wide(layout: Layout) -> bool:
    left, top, right, bottom = layout.digits[0].box
    return right - left > 0.7 * (bottom - top)


def _of_view(view: View, cost: float, name: str) -> list[Layout]:
    """The layouts of one view: everything as one digit, and what is left after tidying."""
    found, shades = list[Layout](), [0]
    while shades:
        shade = shades.pop(0)
        try:
            ink = find_ink(view.small, SEEN_AT, shade)
            pixels, box = whole(view.colors, shade, ink)
        except UnreadableImageError:
            shades += [] if shade else [-1, 1]
            continue
        shades += [-1, 1] if ink.both and not shade else []
        groups = digits_among(connected(ink.levels), ink.levels.shape)
        alone = groups[0][0] if sum(map(len, groups)) == 1 else None
        ways = _ways(view, ink.levels, alone) if alone is not None else ()
        found.append(Layout([[Found(pixels, _in_image(view, box), ways)]], cost, name))
        if _tidy(groups, ink.levels) and not _wide(found[-1]):
            continue
        if max(view.colors.shape) > SEEN_AT:  # look at it closer
            with suppress(UnreadableImageError):
                many = sum(map(len, groups)) > 3
                ink = find_ink(view.small, 2 * PAGE_AT if many else PAGE_AT, shade)
                groups = digits_among(connected(ink.levels), ink.levels.shape)
        if not _tidy(groups, ink.levels) and sum(map(len, groups)) <= MAX_DIGITS:
            lines = [
                [
                    _take(view, ink.levels, mask)._replace(ways=_ways(view, ink.levels, mask))
                    for mask in line
                ]
                for line in groups
            ]
            found.append(Layout(lines, cost, f"{name}, tidied"))
    return found


def _tidy(groups: list[list[Mask]], levels: Array) -> bool:
    """Whether there is at most one digit, and it is all that the plain reading takes."""
    if not groups:
        return True
    return len(groups) == 1 == len(groups[0]) and _all_large(groups[0][0], levels)


def _all_large(mask: Mask, levels: Array) -> bool:
    """Whether a group is all that the plain reading takes."""
    ink = levels > 0.3
    return not (ink & large_parts(ink) & ~cv2.dilate(mask.view(np.uint8), SQUARE).view(bool)).any()


def _take(view: View, levels: Array, mask: Mask) -> Found:
    """The digit whose ink is `mask`, in the page's ink, and seen closer if the page was shrunk."""
    zoom = max(view.colors.shape[:2]) / max(levels.shape)
    box = [round(zoom * edge) for edge in box_of(mask)]
    near = cv2.dilate(mask.view(np.uint8), SQUARE)
    pixels = levels * near
    if zoom > 1:
        left, top, right, bottom = around(box, view.colors.shape)
        try:
            closer = find_ink(view.colors[top:bottom, left:right], SEEN_AT).levels
            step = max(bottom - top, right - left) / max(closer.shape) / zoom
            back = np.array([[step, 0, left / zoom], [0, step, top / zoom]])
            size = closer.shape[1], closer.shape[0]
            how = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
            seen = closer * cv2.warpAffine(near, back, size, flags=how)
            pixels = seen if (seen > 0.5).any() else pixels
        except UnreadableImageError:
            pass  # too little paper around it; the page's ink will do
    return Found(as_mnist(pixels), _in_image(view, [float(edge) for edge in box]))


def _ways(view: View, levels: Array, mask: Mask) -> tuple[tuple[Found, ...], ...]:
    """The ways to cut what may be digits that touch."""
    if not is_wide(mask):
        return ()
    return tuple(tuple(_take(view, levels, part) for part in parts) for parts in cuts(mask, levels))


def _in_image(view: View, box: list[float]) -> Box:
    left, top, right, bottom = box
    corners = np.array([[[left, top], [right, top], [right, bottom], [left, bottom]]])
    x, y = cv2.perspectiveTransform(corners.astype(np.float64), view.back)[0].T
    return round(x.min()), round(y.min()), round(x.max()), round(y.max())


@dataclass(frozen=True, eq=False)
class Part:
    """A connected part of the ink."""

    mask: Mask  # (H, W)
    x: int
    y: int
    width: int
    height: int
    area: int


def connected(levels: Array) -> list[Part]:
    """(H, W) ink -> its connected parts, without specks, the largest first."""
    mask = (cv2.blur(levels, (3, 3), borderType=cv2.BORDER_REPLICATE) > 0.3).view(np.uint8)
    reach = max(levels.shape) // 100  # a gap that is no gap
    joined = cv2.dilate(mask, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) if reach else mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    areas = np.bincount(labels[mask > 0], minlength=len(stats))
    areas[0] = 0
    order = [i for i in np.argsort(-areas)[:MAX_PARTS] if areas[i] >= max(areas.max() / 200, 3)]
    parts = []
    for i in order:
        own = (labels == i) & (mask > 0)
        left, top, right, bottom = box_of(own)
        parts.append(Part(own, left, top, right - left, bottom - top, int(areas[i])))
    return parts


def digits_among(parts: list[Part], shape: tuple[int, ...]) -> list[list[Mask]]:
    """Parts of a page -> the ink of each digit, left to right in lines from top to bottom."""
    if not parts:
        return []
    height, width = shape[:2]
    frames = [part for part in parts if _encloses(part, parts)]
    loose = [part for part in parts if part not in frames] or parts

    def at_border(part: Part) -> bool:
        return (
            part.x <= 0
            or part.y <= 0
            or part.x + part.width >= width
            or part.y + part.height >= height
        )

    good = [p for p in loose if not at_border(p) and not _line(p) and not _blob(p)]
    if not good:
        good = [p for p in loose if not _line(p) and not _blob(p)] or loose
    if all(_stick(p) for p in good):  # as the side of a frame around a smudged digit is
        good = [*good, *(p for p in loose if _blob(p) and not at_border(p))]
    main = max([p for p in good if not _stick(p)] or good, key=lambda part: part.area * part.height)

    def side_of_frame(part: Part) -> bool:
        middle = (part.x + part.width / 2) / width
        above, below = main.y - part.y, part.y + part.height - main.y - main.height
        uneven = max(abs(above), abs(below)) > 0.15 * main.height
        return _stick(part) and not _stick(main) and not 0.15 < middle < 0.85 and uneven

    loose = [part for part in loose if not side_of_frame(part)]
    fit = [p for p in loose if 0.45 * main.height <= p.height <= 2.2 * main.height]
    tall = [part for part in fit if part in good]
    cut = [p for p in fit if at_border(p) and not _line(p) and not _along_border(p)]
    sides = [
        *([p.x <= 0 for p in fit], [p.y <= 0 for p in fit]),
        *([p.x + p.width >= width for p in fit], [p.y + p.height >= height for p in fit]),
    ]
    # More than a neighbour or two, or at three sides: the page was cropped to its ink.
    if sum(map(any, sides)) >= 3:
        cut = [p for p in fit if at_border(p) and p.height < 1.3 * main.height and not _blob(p)]
        tall += [part for part in cut if part not in tall]
    elif len(cut) > len(tall):
        tall += [part for part in cut if part not in tall]
    groups: list[list[Part]] = []
    for part in sorted(tall, key=lambda part: part.x):
        near = [group for group in groups if any(_stacked(part, other) for other in group)]
        for group in near:
            groups.remove(group)
        groups.append([part] + [p for group in near for p in group])
    for part in loose:
        if part in tall or (at_border(part) and part not in good) or part.height > main.height:
            continue
        nearest = min(groups, key=lambda group: min(_gap(part, other) for other in group))
        underline = _line(part) and part.width > 1.1 * max(other.width for other in nearest)
        if not underline and min(_gap(part, other) for other in nearest) <= 0.2 * main.height:
            nearest.append(part)
    return _lines([np.logical_or.reduce([part.mask for part in group]) for group in groups])


def _lines(masks: list[Mask]) -> list[list[Mask]]:
    """The ink of digits -> in reading order."""
    boxes = {id(mask): box_of(mask) for mask in masks}
    middle = {key: (box[1] + box[3]) / 2 for key, box in boxes.items()}
    usual = float(np.median([box[3] - box[1] for box in boxes.values()]))
    lines: list[list[Mask]] = []
    for mask in sorted(masks, key=lambda mask: middle[id(mask)]):
        if lines and middle[id(mask)] - np.mean([middle[id(m)] for m in lines[-1]]) < 0.7 * usual:
            lines[-1].append(mask)
        else:
            lines.append([mask])
    return [sorted(line, key=lambda mask: boxes[id(mask)][0]) for line in lines]


def _along_border(part: Part) -> bool:
    """Whether a part lies along the image's border rather than being cut by it."""
    edges = part.mask[0], part.mask[-1], part.mask[:, 0], part.mask[:, -1]
    return max(edge.sum() for edge in edges) > 0.5 * max(part.width, part.height)


def _encloses(part: Part, parts: list[Part]) -> bool:
    return any(
        other is not part
        and other.height >= 0.2 * part.height
        and part.x < other.x
        and part.y < other.y
        and part.x + part.width > other.x + other.width
        and part.y + part.height > other.y + other.height
        for other in parts
    )


def _line(part: Part) -> bool:
    """Long, thin and straight, and not upright, as a 1 is."""
    if part.width >= 6 * part.height:
        return True
    return part.height >= 12 * part.width


def _stick(part: Part) -> bool:
    """A 1, or a side of a frame."""
    return part.height > 4 * part.width


def _blob(part: Part) -> bool:
    """Filled, and no stroke."""
    return part.area > 0.7 * part.width * part.height and part.height < 2 * part.width


def _stacked(a: Part, b: Part) -> bool:
    """Whether two tall parts stand above each other, near enough for one digit."""
    overlap = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    gap = max(a.y, b.y) - min(a.y + a.height, b.y + b.height)
    return overlap > 0.4 * min(a.width, b.width) and gap < 0.2 * max(a.height, b.height)


def _gap(a: Part, b: Part) -> float:
    """Pixels between the boxes of two parts."""
    x = max(a.x, b.x) - min(a.x + a.width, b.x + b.width)
    y = max(a.y, b.y) - min(a.y + a.height, b.y + b.height)
    return float(np.hypot(max(x, 0), max(y, 0)))
