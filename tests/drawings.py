"""Digits as a hand draws them on a screen: 52 of them, as strokes, each in nine variants.

The tests draw some on the page, benchmarks/drawing.py all. They took no part in any training.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

Point = tuple[float, float]
Stroke = list[Point]


class Drawing(NamedTuple):
    """A digit's strokes, in units of the drawing area's height: (0, 0) is its middle."""

    digit: int
    variant: str
    strokes: list[Stroke]


def places(text: str) -> Stroke:
    """Points as they stand below: x and y in hundredths."""
    return [(float(x) / 100, float(y) / 100) for x, y in map(str.split, text.split(", "))]


def curve(text: str, steps: int = 8) -> Stroke:
    """Through the points, smoothly (Catmull and Rom, 1974)."""
    points = places(text)
    ends = [points[0], *points, points[-1]]
    smooth = [points[0]]
    for p0, p1, p2, p3 in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        for i in range(1, steps + 1):
            t = i / steps
            smooth.append(
                tuple(  # type: ignore[arg-type]
                    b
                    + 0.5
                    * t
                    * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
                    for a, b, c, d in zip(p0, p1, p2, p3, strict=True)
                )
            )
    return smooth


def lines(text: str, steps: int = 8) -> Stroke:
    """From point to point, straight."""
    points = places(text)
    straight = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        straight += [
            (x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps) for i in range(1, steps + 1)
        ]
    return straight


def arc(
    middle: Point, across: float, down: float, start: float, turn: float, steps: int = 24
) -> Stroke:
    """Part of an ellipse; degrees run clockwise on the screen, 0 is to the right, -90 the top."""
    return [
        (middle[0] + across * math.cos(angle), middle[1] + down * math.sin(angle))
        for angle in np.radians(np.linspace(start, start + turn, steps)).tolist()
    ]


# In a box of height 1, x to the right and y down, as different as people's are.
DIGITS: dict[int, list[list[Stroke]]] = {
    0: [
        [arc((0.3, 0.5), 0.3, 0.5, -90, -360)],
        [arc((0.22, 0.5), 0.22, 0.5, -60, 365)],
        [arc((0.45, 0.5), 0.45, 0.5, -75, -345)],
        [arc((0.3, 0.5), 0.3, 0.5, -90, -375)],
        [curve("50 8, 25 2, 5 30, 8 75, 30 98, 55 75, 60 35, 45 8, 30 5")],
    ],
    1: [
        [lines("10 0, 10 100")],
        [lines("0 28, 25 0, 25 100")],
        [lines("5 25, 28 0, 28 100"), lines("5 100, 50 100")],
        [lines("30 0, 0 100")],
        [lines("2 20, 22 0, 18 100")],
        [lines("0 35, 35 0, 30 100")],
    ],
    2: [
        [curve("5 25, 15 5, 35 0, 55 15, 50 40, 25 75, 2 100") + lines("2 100, 62 100")],
        [curve("5 20, 30 0, 55 20, 45 50, 15 90, 5 95, 5 85, 20 85, 40 98, 65 92")],
        [curve("2 15, 30 0, 60 10, 50 45, 25 75, 0 100") + curve("0 100, 30 93, 65 100")],
        [curve("0 30, 10 5, 40 0, 55 30, 30 70, 0 100") + lines("0 100, 55 97")],
        [curve("10 12, 35 0, 58 14, 55 35, 30 65, 5 98") + lines("5 98, 70 98")],
    ],
    3: [
        [curve("5 12, 30 0, 52 15, 45 38, 22 48") + curve("22 48, 50 55, 60 78, 35 100, 2 88")],
        [lines("5 0, 55 0, 25 42") + curve("25 42, 55 50, 60 80, 30 100, 0 88")],
        [curve("0 15, 25 0, 50 15, 42 40, 25 50, 20 45, 30 45, 55 60, 50 90, 25 100, 0 85")],
        [curve("5 5, 40 2, 50 25, 15 45") + curve("15 45, 50 60, 45 90, 0 100")],
        [curve("5 10, 40 0, 50 25, 20 47"), curve("20 47, 55 60, 50 92, 5 97")],
    ],
    4: [
        [lines("10 0, 5 55, 60 55"), lines("48 10, 45 100")],
        [lines("45 100, 45 0, 0 65, 65 65")],
        [lines("30 0, 0 60, 65 60"), lines("45 30, 42 100")],
        [lines("50 0, 0 65, 70 65"), lines("50 0, 50 100")],
        [curve("5 0, 5 35, 20 50, 50 45"), lines("52 0, 48 100")],
        [lines("15 5, 0 50, 55 50"), lines("50 0, 40 100")],
    ],
    5: [
        [lines("55 0, 10 0, 6 42") + curve("6 42, 40 38, 60 65, 40 95, 0 92")],
        [lines("10 2, 6 45") + curve("6 45, 35 38, 58 65, 38 95, 0 93"), lines("10 2, 60 0")],
        [curve("55 3, 20 2, 8 20, 15 42, 45 52, 55 80, 30 100, 0 88")],
        [lines("50 0, 5 3, 2 45, 45 48, 50 90, 0 100")],
        [lines("12 8, 8 45") + curve("8 45, 40 42, 55 70, 35 100, 0 95"), lines("20 0, 62 2")],
    ],
    6: [
        [curve("50 0, 20 25, 3 65, 20 98, 50 85, 45 58, 20 55, 5 75")],
        [lines("25 0, 5 60") + arc((0.28, 0.72), 0.25, 0.27, 200, -350)],
        [curve("55 5, 30 0, 8 30, 3 70, 25 100, 50 82, 40 60, 10 70")],
        [curve("40 0, 10 35, 0 70, 25 100, 55 75, 35 45, 5 60")],
        [curve("30 0, 10 40, 5 80, 25 100, 42 85, 30 68, 8 80")],
    ],
    7: [
        [lines("0 0, 60 0, 25 100")],
        [lines("0 2, 60 0, 22 100"), lines("15 50, 58 48")],
        [lines("0 5, 55 0") + curve("55 0, 35 40, 25 100")],
        [lines("0 15, 2 0, 55 2, 15 100")],
        [lines("2 14, 3 0, 60 0, 30 100"), lines("20 52, 60 52")],
    ],
    8: [
        [curve("50 12, 25 0, 8 20, 30 45, 55 75, 30 100, 5 80, 30 48, 52 20, 42 6")],
        [arc((0.3, 0.25), 0.22, 0.25, 90, 360), arc((0.3, 0.75), 0.28, 0.25, -90, 360)],
        [curve("30 47, 8 25, 28 0, 50 22, 30 47, 5 75, 30 100, 55 75, 30 47")],
        [arc((0.28, 0.22), 0.18, 0.22, 90, -360) + arc((0.28, 0.72), 0.28, 0.28, -90, 360)],
        [curve("55 5, 20 5, 12 28, 45 60, 45 95, 12 95, 10 65, 40 40, 58 10")],
    ],
    9: [
        [arc((0.28, 0.28), 0.27, 0.28, -20, -350) + lines("55 20, 50 100")],
        [curve("50 15, 25 0, 3 25, 20 50, 48 30, 52 12, 50 60, 35 95, 5 95")],
        [arc((0.27, 0.26), 0.25, 0.26, -30, -360), lines("50 10, 45 100")],
        [curve("50 8, 20 2, 3 28, 22 48, 48 25") + lines("48 25, 30 100")],
        [curve("52 10, 25 0, 2 20, 15 45, 45 40, 53 10") + lines("53 10, 53 100")],
    ],
}
VARIANTS = ("straight", "corner", "huge", "wobbly", "slanted", "narrow", "wide", "quick", "tiny")


def drawings() -> Iterator[Drawing]:
    """All 468, the 52 of each variant together."""
    for variant in VARIANTS:
        random = np.random.default_rng(0)
        for digit, styles in DIGITS.items():
            for strokes in styles:
                yield Drawing(digit, variant, _varied(strokes, variant, random))


def _varied(strokes: list[Stroke], variant: str, random: np.random.Generator) -> list[Stroke]:
    right = max(x for stroke in strokes for x, _ in stroke)
    size = {"corner": 0.22, "huge": 0.9, "tiny": 0.09}.get(variant, 0.6)
    at = (-0.36, 0.34) if variant == "corner" else (0.0, 0.0)
    across = {"narrow": 0.5, "wide": 1.5}.get(variant, 1.0)
    varied = []
    for stroke in strokes:
        points = np.array(stroke) - (right / 2, 0.5)
        if variant == "slanted":
            points[:, 0] -= 0.4 * points[:, 1]
        if variant == "wobbly":  # a hand that trembles, slowly enough to be seen
            noise = random.normal(0, 0.05, (len(points) + 4, 2))
            points += np.stack([noise[i : i + len(points)] for i in range(5)]).mean(axis=0)
        if variant == "quick":  # few points, and each a little off
            points = np.concatenate([points[:-1:5], points[-1:]])
            points += random.normal(0, 0.015, points.shape)
        points[:, 0] *= across
        varied.append([(float(x), float(y)) for x, y in points * size + at])
    return varied
