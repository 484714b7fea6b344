"""Draw the digits, letters and signs of synthetic pages (pages.py), at any size.

Digits come from MNIST's training images, from the pen strokes of 30 writers (assets/pen), from
fonts of handwriting (assets/fonts) and of print (matplotlib's), and from seven-segment displays.
Letters come from the fonts, signs from fonts and pens.
"""

import gzip
import itertools
import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import ImageFont

from mnist_lit.assets import FILES

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8]  # (H, W): 255 where there is ink
Generator = np.random.Generator

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SIGNS = ".,:;/-+=x%()*#&?!$<>[]'\"@÷"
PRINT_FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Oblique"),
    *("STIXGeneral", "STIXGeneralBol", "cmr10", "cmss10"),
)
HELD_OUT_FONTS = ("gochi-hand", "schoolbell", "cmss10")
HELD_OUT_WRITERS = 6  # of the 30 pens
HELD_OUT_IMAGES = 10_000  # of MNIST's 60,000
SEGMENTS = {
    "a": "0010",
    "b": "1011",
    "c": "1112",
    "d": "0212",
    "e": "0102",
    "f": "0001",
    "g": "0111",
}
LIT = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")
STROKES = {  # signs as a pen writes them: points x, y on a grid of ten, y downwards
    "-": "05 75",
    "+": "05 85|41 49",
    "x": "00 89|80 09",
    "=": "03 73|06 76",
    "/": "60 09",
    "(": "30 13 16 39",
    ")": "00 23 26 09",
    "÷": "05 75|32 42|38 48",
    "%": "80 19|11 23 13|77 89 79",
    "*": "20 69|60 29|05 85",
    ".": "00 10",
    "tick": "06 39 90",
    "arrow": "05 95|72 95 78",
    "V": "00 49 80",
    "square root": "06 29 50 90",
    "box": "00 90 99 09 00",
    "line": "05 95",
}


class Font(NamedTuple):
    """A font's characters, with their heights and tops relative to a digit's (0 top, 1 foot)."""

    masks: dict[str, Mask]
    heights: dict[str, float]
    tops: dict[str, float]


class Style(NamedTuple):
    """How the characters of one row are written."""

    source: str  # of its digits: pen, mnist, font, print or display
    font: Font  # of its letters, and of its digits if they come from a font
    width: float  # of the pen, in pixels
    slant: float  # tangent of the angle
    stretch: float  # of the width
    tidy: bool  # whether all characters have one size and stand on one line


class Characters:
    """Characters from all sources.

    Args:
        held_out: Use only the writers, images and fonts that training does not use.
    """

    def __init__(self, held_out: bool = False) -> None:
        images, labels = (
            np.frombuffer(gzip.decompress((FILES / "mnist" / name).read_bytes()), np.uint8)
            for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
        )
        part = slice(-HELD_OUT_IMAGES, None) if held_out else slice(0, -HELD_OUT_IMAGES)
        self.images, labels = images[16:].reshape(-1, 28, 28)[part], labels[8:][part]
        self.by_label = [np.flatnonzero(labels == digit) for digit in range(10)]
        self.pens = load_pens(held_out)
        self.hand_fonts, self.print_fonts = load_fonts(held_out)

    def style(self, rng: Generator, height: float, printed: float = 0.15) -> Style:
        """Draw a style for digits of `height` pixels; a share `printed` of them is not by hand."""
        hand = 1 - printed
        shares = [0.46 * hand, 0.46 * hand, 0.08 * hand, 0.8 * printed, 0.2 * printed]
        source = str(rng.choice(["pen", "mnist", "font", "print", "display"], p=shares))
        tidy = source in ("print", "display")
        fonts = self.print_fonts if tidy else self.hand_fonts
        return Style(
            source,
            fonts[rng.integers(len(fonts))],
            max(1.0, log_uniform(rng, 0.03, 0.22) * height),
            0.0 if tidy and rng.random() < 0.7 else rng.normal(0, 0.14),
            math.exp(rng.normal(0, 0.13)),
            tidy,
        )

    def digit(self, rng: Generator, digit: int, height: float, style: Style) -> Mask:
        """Return the mask of one digit, about `height` pixels tall."""
        if style.source == "pen":
            pens = self.pens[digit]
            return stroked(rng, pens[rng.integers(len(pens))], height, style)
        if style.source == "display":
            return stroked(rng, segments(digit), height, style)
        if style.source == "mnist":
            images = self.by_label[digit]
            return resized(
                rng, cropped(self.images[images[rng.integers(len(images))]]), height, style
            )
        return resized(rng, style.font.masks[str(digit)], height, style)


def log_uniform(rng: Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


@cache
def load_pens(held_out: bool) -> list[list[list[Array]]]:
    """Return the strokes of each writer's digits, by digit: points (P, 2), x and y in [0, 1]."""
    with (FILES / "pen" / "pendigits.npz").open("rb") as file, np.load(file) as pens:
        points, strokes, chars, labels, writers = (
            pens[name] for name in ("points", "strokes", "chars", "label", "writer")
        )
    kept = np.isin(writers, np.unique(writers)[-HELD_OUT_WRITERS:]) == held_out
    lines = [points[a:b].astype(np.float32) / 255 for a, b in itertools.pairwise(strokes)]
    return [
        [lines[chars[i] : chars[i + 1]] for i in np.flatnonzero(kept & (labels == str(digit)))]
        for digit in range(10)
    ]


@cache
def load_fonts(held_out: bool) -> tuple[list[Font], list[Font]]:
    """Return the fonts of handwriting and of print."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    hands = sorted((FILES / "fonts").iterdir(), key=lambda path: path.name)
    files = hands, [folder / f"{name}.ttf" for name in PRINT_FONTS]
    hand_fonts, print_fonts = (
        [
            load_font(path)
            for path in paths
            if path.name.endswith((".woff2", ".ttf"))
            and (path.name.partition(".")[0] in HELD_OUT_FONTS) == held_out
        ]
        for paths in files
    )
    return hand_fonts, print_fonts


def load_font(path: Any) -> Font:
    with path.open("rb") as file:
        face = ImageFont.truetype(file, 72)
    font = Font({}, {}, {})
    _, top, _, foot = face.getbbox("0", anchor="ls")
    for char in "0123456789" + LETTERS + SIGNS:
        mask = face.getmask(char, mode="L")
        if all(mask.size) and mask.getbbox():  # the font has this character
            font.masks[char] = cropped(np.array(mask, np.uint8).reshape(mask.size[::-1]))
            _, char_top, _, char_foot = face.getbbox(char, anchor="ls")
            font.heights[char] = (char_foot - char_top) / (foot - top)
            font.tops[char] = (char_top - top) / (foot - top)
    return font


def cropped(mask: Mask) -> Mask:
    """Cut a mask to the box of its ink."""
    rows, columns = (np.flatnonzero((mask > 25).any(axis=axis)) for axis in (1, 0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else mask


def resized(rng: Generator, mask: Mask, height: float, style: Style) -> Mask:
    """Return a character at `height`, slanted, stretched, and as sharp as its new size allows."""
    scale = height / mask.shape[0]
    turn = 0.0 if style.tidy else rng.normal(0, 0.05)
    matrix = scale * np.array(
        [[style.stretch, turn - style.slant, 0], [-turn * style.stretch, 1, 0]]
    )
    tall, wide = mask.shape
    corners = matrix[:, :2] @ np.array([[0, wide, 0, wide], [0, 0, tall, tall]])
    low, high = corners.min(axis=1), corners.max(axis=1)
    matrix[:, 2] = 1 - low
    size = [max(3, math.ceil(side) + 2) for side in high - low]
    if scale < 0.7:  # bilinear sampling would skip pixels
        mask = cv2.resize(mask, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        matrix[:, :2] /= scale
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR
    result = cv2.warpAffine(mask, matrix, size, flags=how)
    if scale > 1.5:  # a threshold below or above the middle makes the pen wider or thinner
        smooth = cv2.GaussianBlur(result, (0, 0), 0.35 * scale).astype(np.float32)
        sharp = (smooth - rng.uniform(70, 140)) * max(2.0, 0.8 * scale) + 127
        result = sharp.clip(0, 255).astype(np.uint8)
    return cropped(result)


def stroked(rng: Generator, lines: list[Array], height: float, style: Style) -> Mask:
    """Return what a pen leaves along `lines`, points x, y in [0, 1], about `height` pixels tall."""
    turn = 0.0 if style.tidy else rng.normal(0, 0.06)
    points = np.concatenate(lines)
    scale = max(height - style.width, 3) / max(float(np.ptp(points[:, 1])), 0.3)
    matrix = np.array([[style.stretch, -style.slant], [turn, 1]], np.float32) * scale
    finer = 4 if height < 60 else 2
    moved = points @ matrix.T
    low, (wide, tall) = moved.min(axis=0), np.ptp(moved, axis=0)
    mask = np.zeros([math.ceil(side + style.width + 3) * finer for side in (tall, wide)], np.uint8)
    offset = style.width / 2 + 1.5 - low
    pressure = style.width < 0.14 * height and rng.random() < 0.3  # the strokes differ in width
    for line in lines:
        pen = style.width * finer * (rng.uniform(0.7, 1.4) if pressure else 1)
        path = ((line @ matrix.T + offset) * (finer * 16)).round().astype(np.int32)
        cv2.polylines(mask, [path], False, 255, max(1, round(pen)), cv2.LINE_AA, 4)
    return cropped(cv2.resize(mask, None, fx=1 / finer, fy=1 / finer, interpolation=cv2.INTER_AREA))


def segments(digit: int) -> list[Array]:
    """Return the lit segments of a seven-segment display, with gaps between them."""
    lines = []
    for name in LIT[digit]:
        line = np.array([int(value) for value in SEGMENTS[name]], np.float32).reshape(2, 2) / 2
        gap = 0.12 * (line[1] - line[0])
        lines.append(line + np.array([gap, -gap]))
    return lines


def sign(rng: Generator, name: str) -> list[Array]:
    """Return a sign of STROKES, or a `scribble`, `curve` or `circle`, as points x, y in [0, 1]."""
    if name == "scribble":
        return [rng.random((rng.integers(3, 12), 2)).astype(np.float32)]
    if name == "circle":
        t = np.linspace(0, 2 * np.pi * rng.uniform(0.9, 1.1), 40)
        ring = np.stack([rng.uniform(0.8, 1.3) * np.cos(t), np.sin(t)], axis=1)
        return [(0.5 + 0.5 * ring).astype(np.float32)]
    if name == "curve":
        t = np.linspace(0, 2 * np.pi, 24)[:, None]
        waves = [
            rng.normal(0, 1 / k, 2) * np.cos(k * rng.uniform(0.3, 1) * t + rng.uniform(0, 7, 2))
            for k in (1, 2, 3)
        ]
        wave = np.sum(waves, axis=0)
        return [
            ((wave - wave.min(axis=0)) / max(np.ptp(wave, axis=0).max(), 1e-3)).astype(np.float32)
        ]
    lines = [
        np.array([[int(point[0]), int(point[1])] for point in line.split()], np.float32) / 9
        for line in STROKES[name].split("|")
    ]
    return [(line + rng.normal(0, 0.035, line.shape)).astype(np.float32) for line in lines]
