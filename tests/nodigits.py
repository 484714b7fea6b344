"""Images of what is no digit: letters and signs, scribbles, textures, parts of pictures.

The tests ask that they are marked as uncertain, benchmarks/wild.py measures how many are, and
benchmarks/detector.py learns from others of them.
"""

import string
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from pages import FONTS, by_hand
from PIL import Image, ImageDraw, ImageFont

SAMPLES = Path(matplotlib.get_data_path()) / "sample_data"
PICTURES = ("grace_hopper.jpg", "Minduka_Present_Blue_Pack.png", "logo2.png")
LIKE_DIGITS = "OoIl|!1/\\()"  # what no eye tells from digits, a slanting 1 above all
LETTERS = [c for c in string.ascii_letters + "?&%#@+=<>[]{};:$^~*" if c not in LIKE_DIGITS]
NEARLY = list("SZBDQqgbz[]{}")  # and what only a careful one does: more of these
GREEK = [chr(c) for c in [*range(0x3B1, 0x3BF), *range(0x3C0, 0x3CA), *map(ord, "ΔΘΛΣΦΨΩ")]]
HERSHEY = [  # drawn by OpenCV in single strokes, as a plotter would
    *(cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX),
    *(cv2.FONT_HERSHEY_SCRIPT_SIMPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX),
    *(cv2.FONT_HERSHEY_SIMPLEX | cv2.FONT_ITALIC, cv2.FONT_HERSHEY_COMPLEX | cv2.FONT_ITALIC),
]


def letter(random: np.random.Generator) -> Image.Image:
    """A letter or sign of a font, also as if written by hand, or with a pen of one width."""
    font, size = str(random.choice(FONTS)), int(random.integers(90, 170))
    kind = random.random()
    greek = kind < 0.3 and not font.endswith("cmr10.ttf")
    sign = str(random.choice(GREEK if greek else NEARLY if kind > 0.8 else LETTERS))
    if not greek and random.random() < 0.3:
        levels = np.full((220, 220), 255, np.uint8)
        style, thick = int(random.choice(HERSHEY)), int(random.integers(2, 12))
        (width, height), _ = cv2.getTextSize(sign, style, size / 30, thick)
        at = (220 - width) // 2, (220 + height) // 2
        cv2.putText(levels, sign, at, style, size / 30, 0, thick, cv2.LINE_AA)
        image = Image.fromarray(levels)
    else:
        image = Image.new("L", (220, 220), 255)
        draw = ImageDraw.Draw(image)
        draw.text((110, 110), sign, 0, ImageFont.truetype(font, size), anchor="mm")
        if random.random() < 0.4:
            image = traced(image, random)
    if random.random() < 0.6:
        image = by_hand(image, random)
    return image


def traced(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Print written anew with a pen of one width, along the middle of its strokes."""
    rest = (np.asarray(image) < 128).view(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    middle = np.zeros_like(rest)
    while rest.any():  # the skeleton by openings (Serra, Image analysis, 1982)
        middle |= rest & ~cv2.morphologyEx(rest, cv2.MORPH_OPEN, cross) & 1
        rest = cv2.erode(rest, cross, borderValue=0)
    middle = cv2.morphologyEx(middle, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    side = int(random.integers(2, 12))
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return Image.fromarray(255 * (1 - cv2.dilate(middle, pen)))


def scribble(random: np.random.Generator) -> Image.Image:
    """Lines here and there, or a curve that turns over and over."""
    image = Image.new("L", (220, 220), 255)
    draw = ImageDraw.Draw(image)
    points = random.uniform(20, 200, (int(random.integers(4, 14)), 2))
    if random.random() < 0.5:
        t = np.linspace(0, 1, 80)
        knots = np.linspace(0, 1, len(points))
        angle = random.uniform(4, 20) * t
        points = np.stack([np.interp(t, knots, points[:, axis]) for axis in range(2)], axis=1)
        points += random.uniform(10, 50) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    line = [(float(x), float(y)) for x, y in points]
    draw.line(line, 0, int(random.integers(2, 14)), "curve")
    return image


def texture(random: np.random.Generator) -> Image.Image:
    """Clouds, stripes, bricks or noise of any fineness."""
    kind, side = random.integers(3), int(random.integers(4, 40))
    if kind == 0:
        levels = random.uniform(0, 255, (side, side, 3)).astype(np.uint8)
        return Image.fromarray(levels).resize((200, 200), Image.Resampling.BICUBIC)
    y, x = np.mgrid[0:200, 0:200]
    if kind == 1:
        angle = random.uniform(0, np.pi)
        levels = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / side)
    else:
        row = y // side
        levels = ((y % side < 2) | ((x + side * (row % 2)) % (2 * side) < 2)) * 2.0 - 1
    levels = 128 + 80 * levels + random.normal(0, 20, levels.shape)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert("RGB")


def picture(random: np.random.Generator) -> Image.Image:
    """A part of one of the pictures that matplotlib has for its own examples."""
    image = Image.open(SAMPLES / str(random.choice(PICTURES))).convert("RGB")
    side = int(random.integers(40, min(image.size)))
    left, top = (int(random.integers(edge - side + 1)) for edge in image.size)
    image = image.crop((left, top, left + side, top + side))
    return image.transpose(Image.Transpose(int(random.integers(7)))).resize((200, 200))


def nothing(random: np.random.Generator) -> Image.Image:
    """What is no digit."""
    kinds = (letter, scribble, texture, picture)
    image = kinds[random.choice(len(kinds), p=[0.65, 0.15, 0.1, 0.1])](random)
    if image.mode == "L" and random.random() < 0.3:
        side = int(random.choice([28, 60, 128]))
        image = image.resize((side, side), Image.Resampling.BOX)
    return image.convert("RGB")
