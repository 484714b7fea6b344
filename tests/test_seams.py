"""Digits that touch are cut where little ink is; what is one digit is not."""

import numpy as np
from PIL import Image

from mnist_lit.assets import test_digits as embedded_test_digits
from mnist_lit.reading import look, read
from mnist_lit.seams import cuts, is_wide, seam_between
from mnist_lit.sureness import shipped


def test_a_seam_runs_where_no_ink_is() -> None:
    ink = np.ones((9, 12), np.float32)
    path = [5, 5, 6, 6, 7, 6, 5, 4, 5]
    ink[range(9), path] = 0
    np.testing.assert_array_equal(seam_between(ink, 2, 10), path)


def test_a_seam_runs_straight_where_it_may() -> None:
    assert len(set(seam_between(np.zeros((20, 12), np.float32), 3, 9))) == 1


def test_a_seam_stays_within_its_zone() -> None:
    ink = np.random.default_rng(0).random((30, 40), np.float32)
    ink[:, :10] = 0
    assert set(seam_between(ink, 12, 20)) <= set(range(12, 20))


def test_parts_have_all_the_ink_between_them() -> None:
    ink = np.zeros((30, 60), np.float32)
    ink[4:26, 4:20] = ink[4:26, 40:56] = ink[15, 4:56] = 1
    ways = cuts(ink > 0, ink)
    assert {len(parts) for parts in ways} >= {2}
    for parts in ways:
        np.testing.assert_array_equal(np.sum(parts, axis=0), ink > 0)  # each pixel once
    assert any(
        abs(int(parts[0].sum()) - int(parts[1].sum())) < 60 for parts in ways if len(parts) == 2
    )


def test_what_is_narrow_is_not_wide() -> None:
    mask = np.zeros((30, 60), dtype=bool)
    mask[5:25, 10:20] = True
    assert not is_wide(mask)
    mask[5:25, 10:40] = True
    assert is_wide(mask)


def rows_of_digits(number: int, apart: int) -> list[tuple[Image.Image, str]]:
    """Test digits side by side, their centres `apart` pixels of MNIST from each other, enlarged."""
    images, labels = embedded_test_digits()
    random = np.random.default_rng(apart)
    rows = []
    for _ in range(number):
        chosen = random.integers(0, len(images), int(random.integers(2, 5)))
        row = np.zeros((48, apart * len(chosen) + 48), np.uint8)
        for place, i in enumerate(chosen):
            left = 10 + apart * place
            digit = images[i, 0].numpy()
            row[10:38, left : left + 28] = np.maximum(row[10:38, left : left + 28], digit)
        page = Image.fromarray(255 - row)
        page = page.resize((5 * page.width, 5 * page.height), Image.Resampling.BICUBIC)
        rows.append((page.convert("RGB"), "".join(str(int(labels[i])) for i in chosen)))
    return rows


def test_digits_that_touch_are_read() -> None:
    """At 17 pixels apart, most touch: without cuts about half of such rows are read."""
    rows = rows_of_digits(40, 17)
    readings = read(shipped(), [look(image) for image, _ in rows])
    right = sum(
        reading.number == number for reading, (_, number) in zip(readings, rows, strict=True)
    )
    print(f"{right} of 40 rows right")
    assert right >= 26


def test_one_wide_digit_stays_one() -> None:
    images, labels = embedded_test_digits()
    wide = [i for i in range(2000) if is_wide(images[i, 0].numpy() > 100)][:60]
    pages = [
        Image.fromarray(255 - images[i, 0].numpy()).resize((140, 140), Image.Resampling.BICUBIC)
        for i in wide
    ]
    readings = read(shipped(), [look(page.convert("RGB")) for page in pages])
    numbers = [reading.number for reading in readings]
    assert sum(len(number) > 1 for number in numbers) <= 1
    right = sum(number == str(int(labels[i])) for number, i in zip(numbers, wide, strict=True))
    assert right >= 57
