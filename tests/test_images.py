"""Image files from strangers: which are opened, as what, and what is said of the others."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from disguises import encoded
from PIL import Image, features

from mnist_lit import images
from mnist_lit.images import UnreadableImageError, open_image


def test_an_image_is_rgb_and_upright_and_tells_its_full_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("L", (3000, 2000), 200).save(tmp_path / "photo.jpg", exif=exif)
    image = open_image(tmp_path / "photo.jpg")
    assert image.mode == "RGB"
    assert image.info["full_size"] == (2000, 3000)
    assert image.height > image.width
    assert max(image.size) <= 2 * images.ENOUGH


def test_the_pages_of_a_file_are_counted() -> None:
    pages = [Image.new("L", (20, 20), level) for level in (0, 100, 200)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    file.seek(0)
    image = open_image(file)
    assert image.info["frames"] == 3
    assert image.getpixel((0, 0)) == (0, 0, 0)


def oriented(kind: int, number: int, value: bytes) -> bytes:
    """EXIF data whose orientation has this TIFF type and number of values."""
    entry = struct.pack("<HHHI4s", 1, 0x112, kind, number, value)
    return b"Exif\0\0II*\0\x08\0\0\0" + entry + bytes(4)


EXIF = {
    "garbage": b"Exif\0\0" + bytes(range(200)),
    "orientation as text": oriented(2, 4, b"six\0"),
    "orientation as bytes": oriented(7, 3, b"\x06\x07\0\0"),
    "orientation of ninety": oriented(3, 1, b"\x5a\0\0\0"),
    "a million orientations": oriented(3, 10**6, b"\x06\0\0\0"),
    "cut": oriented(3, 1, b"\x06\0\0\0")[:-8],
}


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("kind", EXIF)
def test_a_photo_with_broken_exif_data_is_read_as_it_lies(kind: str) -> None:
    whole = Image.new("L", (60, 40), 255)
    whole.paste(0, (8, 8, 24, 32))
    image = open_image(io.BytesIO(encoded(whole, "JPEG", exif=EXIF[kind])))
    assert image.info["full_size"] == image.size == (60, 40)
    assert np.abs(np.asarray(image.convert("L")).astype(int) - np.asarray(whole)).max() < 60


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_is_set_upright(orientation: int) -> None:
    upright = Image.new("L", (60, 40), 255)
    upright.paste(0, (0, 0, 30, 8))
    back = images.UPRIGHT.get({6: 8, 8: 6}.get(orientation, orientation))
    stored = upright if back is None else upright.transpose(back)
    exif = oriented(3, 1, bytes([orientation, 0, 0, 0]))
    image = open_image(io.BytesIO(encoded(stored, "PNG", exif=exif)))
    assert np.array_equal(np.asarray(image.convert("L")), np.asarray(upright))
    assert image.info["full_size"] == (60, 40)


def test_an_animation_that_claims_more_pictures_is_not_believed() -> None:
    frames = [Image.new("L", (20, 20), level) for level in (0, 100, 200)]
    content = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert open_image(io.BytesIO(content)).info["frames"] == 3
    claim = b"acTL" + struct.pack(">II", 2**31, 0)
    at = content.index(b"acTL")
    lying = content[:at] + claim + struct.pack(">I", zlib.crc32(claim)) + content[at + 16 :]
    image = open_image(io.BytesIO(lying))
    assert image.info["frames"] == 3
    assert image.getpixel((0, 0)) == (0, 0, 0)


HEIC = b"\0\0\0\x18ftypheic" + bytes(200)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEIC, "HEIC.*heic"),
        (b"%PDF-1.7\n" + bytes(100), "PDF.*PNG"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG.*PNG"),
        (b"PK\x03\x04" + bytes(100), "ZIP.*unpack it"),
        (b"<html><body></body></html>", "not an image"),
    ],
)
def test_formats_that_people_have_are_named(
    content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "find_spec", lambda _: None)  # as without pillow-heif
    with pytest.raises(UnreadableImageError, match=message):
        open_image(io.BytesIO(content))


def test_a_heic_photo_is_read_with_the_extra() -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs pip install '.[heic]'")
    heif.register_heif_opener()
    photo = Image.new("RGB", (64, 48), "white")
    photo.paste("black", (10, 10, 20, 20))
    opened = open_image(io.BytesIO(encoded(photo, "HEIF", quality=90)))
    assert opened.size == (64, 48)
    assert np.abs(np.asarray(opened).astype(int) - np.asarray(photo)).mean() < 5


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read_where_pillow_can() -> None:
    assert open_image(io.BytesIO(encoded(Image.new("RGB", (40, 30)), "AVIF"))).size == (40, 30)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_devices_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(UnreadableImageError, match="not a regular file"):
            open_image(path)
    with pytest.raises(IsADirectoryError):
        open_image(tmp_path)


def test_a_file_is_refused_by_its_size_before_it_is_decoded(tmp_path: Path) -> None:
    with open(tmp_path / "sparse.bmp", "wb") as file:
        file.write(encoded(Image.new("L", (9, 9)), "BMP"))
        file.truncate(images.MAX_BYTES + 1)
    with pytest.raises(UnreadableImageError, match="more than 400 MB"):
        open_image(tmp_path / "sparse.bmp")
