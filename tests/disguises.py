"""24 disguises of a digit: sizes, places, papers, inks and files in which people have them."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

Render = Callable[[Image.Image, np.random.Generator], bytes]


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def enlarged(digit: Image.Image, side: int) -> Image.Image:
    """Dark on white, as a person draws."""
    return ImageOps.invert(digit.resize((side, side), Image.Resampling.BICUBIC))


def with_levels(digit: Image.Image, ink: int, paper: int) -> bytes:
    levels = np.asarray(enlarged(digit, 200), dtype=np.float32) / 255
    return encoded(Image.fromarray((ink + (paper - ink) * levels).astype(np.uint8)))


def in_corner(digit: Image.Image, side: int) -> bytes:
    sheet = Image.new("L", (side, side), 255)
    sheet.paste(enlarged(digit, 112), (side - 112 + 12, side - 112 + 12))
    return encoded(sheet)


def shaded(digit: Image.Image, random: np.random.Generator) -> bytes:
    """Light that falls from the full to two fifths across the sheet, in any direction."""
    y, x = np.mgrid[-1:1:280j, -1:1:280j]
    angle = random.uniform(0, 2 * np.pi)
    light = 0.7 + 0.3 * (x * np.cos(angle) + y * np.sin(angle)) / np.hypot(
        np.cos(angle), np.sin(angle)
    ).clip(1)
    return encoded(
        Image.fromarray((np.asarray(enlarged(digit, 280)) * light.clip(0.4, 1)).astype(np.uint8))
    )


def noisy(digit: Image.Image, random: np.random.Generator) -> bytes:
    levels = np.asarray(enlarged(digit, 280), dtype=np.float32) * 0.8 + 25
    levels += random.normal(0, 25, levels.shape)
    return encoded(Image.fromarray(levels.clip(0, 255).astype(np.uint8)))


def turned_by_exif(digit: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x112] = 6  # to be shown turned by a quarter clockwise
    turned = enlarged(digit, 200).convert("RGB").rotate(90, expand=True)
    return encoded(turned, "JPEG", exif=exif)


def on_nothing(digit: Image.Image, ink: str) -> bytes:
    image = Image.new("RGBA", (200, 200), ink)
    image.putalpha(digit.resize((200, 200), Image.Resampling.BICUBIC))
    return encoded(image)


def in_color(digit: Image.Image, ink: str, paper: str) -> Image.Image:
    image = Image.new("RGB", (200, 200), paper)
    image.paste(ink, mask=digit.resize((200, 200), Image.Resampling.BICUBIC))
    return image


CLEAN: dict[str, Render] = {
    "as in MNIST": lambda digit, _: encoded(digit),
    "inverted": lambda digit, _: encoded(ImageOps.invert(digit)),
    "280 pixels": lambda digit, _: encoded(enlarged(digit, 280)),
}
DISGUISES: dict[str, Render] = CLEAN | {
    "20 pixels": lambda digit, _: encoded(enlarged(digit, 20)),
    "2000 pixels": lambda digit, _: encoded(enlarged(digit, 2000), compress_level=1),
    "corner": lambda digit, _: in_corner(digit, 400),
    "corner of a wide sheet": lambda digit, _: in_corner(digit, 1200),
    "grey paper": lambda digit, _: with_levels(digit, ink=80, paper=170),
    "faint pencil": lambda digit, _: with_levels(digit, ink=200, paper=240),
    "light on grey": lambda digit, _: with_levels(digit, ink=180, paper=110),
    "shadow": shaded,
    "JPEG at quality 30": lambda digit, _: encoded(enlarged(digit, 100), "JPEG", quality=30),
    "turned by EXIF": lambda digit, _: turned_by_exif(digit),
    "black on nothing": lambda digit, _: on_nothing(digit, "black"),
    "white on nothing": lambda digit, _: on_nothing(digit, "white"),
    "thin": lambda digit, _: encoded(enlarged(digit, 280).filter(ImageFilter.MaxFilter(11))),
    "thick": lambda digit, _: encoded(enlarged(digit, 280).filter(ImageFilter.MinFilter(11))),
    "blue ink": lambda digit, _: encoded(in_color(digit, "#1e3cc8", "#faf5e6")),
    "yellow ink": lambda digit, _: encoded(in_color(digit, "#f0dc28", "white")),
    "palette": lambda digit, _: encoded(in_color(digit, "#1e3cc8", "#faf5e6").convert("P"), "GIF"),
    "noise": noisy,
    "16 bits": lambda digit, _: encoded(
        Image.fromarray(np.asarray(enlarged(digit, 100)).astype(np.uint16) * 16), "TIFF"
    ),
    "cropped to the ink": lambda digit, _: encoded(
        ImageOps.invert(digit.crop(digit.getbbox()).resize((150, 210)))
        if digit.getbbox()[2] - digit.getbbox()[0] > 8  # a bare 1 is a sheet full of ink
        else enlarged(digit, 200)
    ),
    "WebP": lambda digit, _: encoded(enlarged(digit, 100), "WEBP", quality=50),
}
