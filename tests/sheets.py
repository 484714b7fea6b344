"""Photos of a filled-in form, drawn: turned, at an angle, in a shadow, of many sizes."""

import io
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from mnist_lit import sheet
from mnist_lit.assets import test_digits

Pixels = npt.NDArray[np.uint8]
DENSITY = 8  # pixels in a millimetre of what is photographed
INKS = ((20, 20, 25), (25, 45, 150), (120, 25, 30), (95, 95, 95))  # pens, and a pencil


@cache
def form() -> Pixels:
    """(H, W, 3), as printed."""
    file = io.BytesIO()
    sheet.draw_form().savefig(file, dpi=25.4 * DENSITY)
    return np.asarray(Image.open(file).convert("RGB"))


def box(row: int, column: int) -> tuple[float, float]:
    """The middle of a box, in pixels of the form."""
    x = sheet.LEFT + column * sheet.ACROSS + sheet.BOX[0] / 2
    y = sheet.TOP + row * sheet.DOWN + sheet.BOX[1] / 2
    return DENSITY * x, DENSITY * y


def filled(
    random: np.random.Generator, left_out: float = 0, pen: float = 0, sides: Any = (8, 11)
) -> tuple[Pixels, dict[Any, int]]:
    """A form with MNIST test digits in its rows, and which of them stands in which box.

    Args:
        random: Chooses the digits, their places and the colour of the ink.
        left_out: The share of the boxes that stay empty.
        pen: The stroke width in millimetres; 0 keeps the width of MNIST's strokes, of about 1.
        sides: The least and the largest side of an image of 28 x 28 in millimetres.
    """
    images, labels = test_digits()
    paper = form().astype(np.float32) / 255
    ink = np.array(INKS[random.integers(len(INKS))], dtype=np.float32) / 255
    which = {}
    for row in range(sheet.ROWS):
        some = random.permutation(np.flatnonzero(labels.numpy() == row))
        for column in range(sheet.COLUMNS):
            if random.random() < left_out:
                continue
            which[row, column] = int(some[column])
            side = round(DENSITY * random.uniform(*sides))  # of 28 pixels; the digit has 20
            digit = Image.fromarray(images[some[column], 0].numpy())
            level = np.asarray(digit.resize((side, side), Image.Resampling.BICUBIC)) / 255
            x, y = (round(at - side / 2 + random.normal(0, 3)) for at in box(row, column))
            if pen:
                level = thickened(level, pen)
                x, y = (round(at - side / 2) for at in box(row, column))
            there = paper[y : y + side, x : x + side]
            there += level[..., None] * (ink - 1) * there
    return (255 * paper.clip(0, 1)).round().astype(np.uint8), which


def thickened(level: npt.NDArray[np.float64], pen: float) -> npt.NDArray[np.float64]:
    """A digit in [0, 1] whose strokes of a millimetre are `pen` millimetres wide instead."""
    size = round(DENSITY * (pen - 1)) | 1
    return cv2.dilate(level, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))


def crossed_out(
    page: Pixels, places: list[Any], random: np.random.Generator, pen: float = 0.5
) -> Pixels:
    """The page with a cross by hand over each of the boxes, from about corner to corner."""
    page = page.copy()
    for place in places:
        half = np.array(sheet.BOX) * DENSITY / 2
        for way in (np.array([1, 1]), np.array([1, -1])):
            begin, end = (sign * way * half + random.normal(0, DENSITY, 2) for sign in (-0.9, 0.9))
            bend = random.normal(0, 0.3 * DENSITY) * np.array([way[1], -1])
            t = np.linspace(0, 1, 20)[:, None]
            line = box(*place) + begin + t * (end - begin) + 4 * t * (1 - t) * bend
            points, width = [np.round(16 * line).astype(np.int32)], round(pen * DENSITY)
            cv2.polylines(page, points, False, (20, 20, 25), width, cv2.LINE_AA, shift=4)
    return page


def on_letter(page: Pixels) -> Pixels:
    """What US Letter keeps of the A4 page at its actual size; printers leave margins of 6.35 mm."""
    width, height, margin = (round(DENSITY * side) for side in (279.4, 215.9, 6.35))
    letter = Image.new("RGB", (width, height), "white")
    letter.paste(Image.fromarray(page), ((width - page.shape[1]) // 2, 0))
    seen = letter.crop((margin, margin, width - margin, height - margin))
    return np.asarray(ImageOps.expand(seen, margin, "white"))


def faxed(page: Pixels, random: np.random.Generator) -> bytes:
    """A scan in black and white of 100 dots per inch, up to a degree askew."""
    scale, angle = 100 / 25.4 / DENSITY, random.uniform(-1, 1)
    height, width = page.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    grey = cv2.cvtColor(page, cv2.COLOR_RGB2GRAY)
    grey = cv2.warpAffine(grey, turn, (width, height), borderValue=255.0)
    grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    file = io.BytesIO()
    Image.fromarray(grey > random.uniform(120, 190)).save(file, "PNG")
    return file.getvalue()


def seen_at(
    shape: tuple[int, ...],
    longer: int,
    random: np.random.Generator,
    bow: float = 0,
    lens: float = 0,
) -> tuple[float, npt.NDArray[np.float32]]:
    """The photo's pixels for a pixel of the page, and where in the page each pixel (H, W) looks.

    Args:
        shape: Of the page, in pixels.
        longer: The photo's longer side in pixels.
        random: Chooses where the camera is.
        bow: By how many millimetres the middle of the bent page lies beside its ends.
        lens: The radial distortion at the photo's corners, relative to their distance.
    """
    height, width = shape[:2]
    size = longer, round(longer * 0.75)
    scale = random.uniform(0.78, 0.84) * min(size[0] / width, size[1] / height)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    angle = np.deg2rad(random.uniform(-10, 10))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    to = (corners - corners.mean(axis=0)) @ turn.T * scale + np.array(size) / 2
    to += random.uniform(-0.03, 0.03, (4, 2)) * scale * width  # the camera is not above it
    matrix = cv2.getPerspectiveTransform(to.astype(np.float32), corners)
    middle = np.array(size, dtype=np.float32) / 2
    photo = np.stack(np.meshgrid(*map(np.arange, size)), axis=2) - middle
    photo *= 1 + lens * (np.square(photo).sum(axis=2) / np.square(middle).sum())[..., None]
    at = cv2.perspectiveTransform((photo + middle).astype(np.float32), matrix)
    at[..., 1] += bow * DENSITY * np.sin(np.pi * at[..., 0] / width)
    return scale, at


def photographed(
    page: Pixels,
    longer: int,
    random: np.random.Generator,
    turns: int = 0,
    **bent: float,
) -> bytes:
    """A JPEG of the page on a table, up to 10 degrees askew, `turns` quarters turned."""
    scale, at = seen_at(page.shape, longer, random, **bent)
    table = random.uniform(60, 140, 3)
    if scale < 0.7:  # a camera averages what a pixel sees
        page = cv2.GaussianBlur(page, (0, 0), 0.4 / scale)
    photo = cv2.remap(page, at, None, cv2.INTER_LINEAR, borderValue=table.tolist())
    y, x = np.mgrid[0 : photo.shape[0], 0 : photo.shape[1]] / longer
    light = 0.9 + random.uniform(-0.2, 0.2) * (x - 0.5) + random.uniform(-0.2, 0.2) * (y - 0.4)
    edge = (x - random.uniform(0.3, 0.7)) + random.uniform(-0.6, 0.6) * (y - 0.4)
    light *= 1 - random.uniform(0.25, 0.45) / (1 + np.exp(-edge / 0.012))  # of a hand or a phone
    noise = random.normal(0, 3, photo.shape)
    seen = photo * light[..., None] * np.array([1, 0.98, 0.93]) + noise
    image = Image.fromarray(np.rot90(seen.clip(0, 255).astype(np.uint8), turns).copy())
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return file.getvalue()
