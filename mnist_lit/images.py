"""An image file -> its pixels: RGB, upright, of a size that is handy.

Files come from strangers, so only what is expected is opened: regular files of bounded size, in
formats whose decoders do nothing but decode.
"""

import os
import stat
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, features
from PIL.Image import Transpose

# Pillow reads more, but some of it starts other programs or is a language of its own.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".heic", ".avif")
MAX_PIXELS = 50_000_000  # a phone's photo, and 200 MB while it is decoded
MAX_BYTES = 400_000_000  # of a file: MAX_PIXELS of 16 bits in RGBA, not compressed
ENOUGH = 1024  # pixels of the longer side that are kept of a larger image
UPRIGHT = {  # by the orientation that EXIF tells; from 5 it is a quarter turn
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


class UnreadableImageError(ValueError):
    """The file is no image, is damaged or too large, or shows nothing."""


def open_image(file: Any) -> Image.Image:
    """An image file (path or binary file object) -> its first frame, upright, in RGB.

    Its `info` tells the `full_size` (width, height) of a large image that was shrunk, and `frames`.

    Raises:
        OSError: The file cannot be opened.
        UnreadableImageError: It is empty, not an image, damaged, or has over MAX_PIXELS.
    """
    with _opened(file) if isinstance(file, str | Path) else nullcontext(file) as stream:
        start = stream.read(256)
        if not start:
            raise UnreadableImageError("the file is empty")
        if stream.seek(0, os.SEEK_END) > MAX_BYTES:
            raise UnreadableImageError(f"more than {MAX_BYTES // 1_000_000} MB")
        stream.seek(0)
        foreign = _foreign(start)
        if foreign and not _plugin(foreign):
            raise UnreadableImageError(FOREIGN[foreign])
        try:
            image = Image.open(stream, formats=(foreign,) if foreign else FORMATS)
        except Image.DecompressionBombError as error:
            raise UnreadableImageError(f"more than {MAX_PIXELS:,} pixels") from error
        except Exception as error:  # arbitrary bytes make Pillow raise arbitrary errors
            raise UnreadableImageError(
                f"not an image in one of the formats {', '.join(FORMATS)}"
            ) from error
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableImageError(
                f"{image.width} x {image.height} is more than {MAX_PIXELS:,} pixels"
            )
        try:
            frames, size = _frames(image, stream), image.size
            image.draft("RGB", (ENOUGH, ENOUGH))  # a large JPEG is decoded at a fraction
            shrunk = _shrink(image)
            orientation = _orientation(shrunk)
            if orientation in UPRIGHT:
                shrunk = shrunk.transpose(UPRIGHT[orientation])
            upright, turned = _rgb(shrunk), orientation >= 5
        except Exception as error:
            raise UnreadableImageError("a damaged image") from error
        upright.info = {"full_size": size[::-1] if turned else size, "frames": frames}
        return upright


FOREIGN = {
    "HEIF": "a HEIC photo: pip install '.[heic]', or save it as JPEG",
    "AVIF": "an AVIF image, which this Pillow does not read: save it as PNG",
    "PDF": "a PDF document: save its page as PNG, as a screenshot or with pdftoppm -png",
    "SVG": "an SVG drawing: export it as PNG",
    "ZIP": "a ZIP archive: unpack it, and give its folder",
}


def _foreign(start: bytes) -> str | None:
    """The name of a format that people have and that is not in FORMATS, by a file's first bytes."""
    if start[4:8] == b"ftyp":
        brand = start[8:12]
        if brand in (b"avif", b"avis"):
            return "AVIF"
        return "HEIF" if brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1") else None
    if start.startswith(b"PK\x03\x04"):
        return "ZIP"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"%PDF-"):
        return "PDF"
    return "SVG" if text.startswith(b"<") and b"<svg" in text else None


def _plugin(name: str) -> bool:
    """Whether Pillow can be made to read a foreign format."""
    if name == "HEIF" and find_spec("pillow_heif"):
        import pillow_heif  # an optional extra

        pillow_heif.register_heif_opener()
        return True
    return name == "AVIF" and bool(features.check("avif"))


def _frames(image: Image.Image, stream: BinaryIO) -> int:
    """The pictures of a file, of which an APNG may claim any number: its own are counted."""
    frames: int = getattr(image, "n_frames", 1)
    if image.format != "PNG" or frames == 1:
        return frames
    at = stream.tell()
    stream.seek(0)
    there = stream.read().count(b"fcTL") + bool(image.info.get("default_image"))
    stream.seek(at)
    return max(1, min(frames, there))


def _orientation(image: Image.Image) -> int:
    """The orientation that EXIF tells, 1 to 8; 1, which is upright, if it tells nothing of use."""
    try:
        orientation: Any = image.getexif().get(0x112)
        return orientation if orientation in UPRIGHT else 1
    except Exception:  # arbitrary bytes make Pillow raise arbitrary errors
        return 1


def _opened(path: str | Path) -> BinaryIO:
    """A regular file to read from; not a pipe or device, of which a read may wait or never end."""
    file = open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")  # noqa: SIM115
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(21, "Is a directory", str(path))
        raise UnreadableImageError("not a regular file")
    return file


def _shrink(image: Image.Image) -> Image.Image:
    """Any mode -> one that can be averaged, no side over 2 * ENOUGH: what follows makes copies."""
    if image.mode.startswith("I"):
        image = image.convert("I").convert("F")
    elif image.mode in ("1", "P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image.reduce(max(1, max(image.size) // ENOUGH))


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode -> RGB: 16 bits to 8, and what is transparent becomes paper."""
    if image.mode == "F":
        levels = np.nan_to_num(np.asarray(image, dtype=np.float32))
        low, high = float(levels.min()), float(levels.max())
        # Twelve bits are often kept in sixteen, so the levels are stretched, but noise is not.
        full = next((full for full in (1, 255, 65_535) if high <= full), high)
        levels = (levels - low) * (255 / max(high - low, full / 16))
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        opaque = np.asarray(image.getchannel("A")) > 127
        light = opaque.any() and np.asarray(image.convert("L"))[opaque].mean() > 127
        # Mostly opaque: a sheet with holes, filled in its own shade. Else: ink on nothing.
        paper = "white" if light == (opaque.mean() > 0.5) else "black"
        image = Image.alpha_composite(Image.new("RGBA", image.size, paper), image)
    return image.convert("RGB")
