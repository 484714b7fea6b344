"""The form to write in: drawn, photographed, and cut up again."""

import io
import re
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from sheets import (
    DENSITY,
    Pixels,
    crossed_out,
    faxed,
    filled,
    form,
    on_letter,
    photographed,
)

from mnist_lit import load_pretrained, sheet
from mnist_lit.assets import test_digits as digits_of_test
from mnist_lit.images import open_image
from mnist_lit.own import own_digits
from mnist_lit.reading import read_digits
from mnist_lit.sureness import shipped

WIDTHS = (1000, 1400, 2000, 3000, 4000)


def cuts_of(photo: bytes) -> dict[Any, sheet.Cut]:
    cuts = sheet.cut_up(open_image(io.BytesIO(photo)))
    assert len(cuts) == 200
    return {(cut.row, cut.column): cut for cut in cuts}


def png(pixels: Pixels) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    file.seek(0)
    return file


def assert_whole(cuts: dict[Any, sheet.Cut], which: dict[Any, int]) -> None:
    """No digit is lost but for a few over the edge, and paper is all around each of the others."""
    states = [cuts[place].state for place in which]
    assert states.count("filled") >= 0.97 * len(which)
    assert states.count("crossed out") == 0
    for place, cut in cuts.items():
        assert place in which or cut.state == "empty"
        if cut.state == "filled":
            grey = cut.pixels.min(axis=2)
            edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
            paper = cv2.dilate(edge[None], np.ones((1, 29), dtype=np.uint8))[0]  # within 2 mm
            assert (edge > 0.6 * paper).all(), place  # pens and pencil leave less than 0.4


@pytest.mark.parametrize("seed", range(20))
def test_every_box_of_a_photo_is_found(seed: int) -> None:
    random = np.random.default_rng(seed)
    page, which = filled(random)
    cuts = cuts_of(photographed(page, WIDTHS[seed % len(WIDTHS)], random, turns=seed % 4))
    assert_whole(cuts, which)
    images, _ = digits_of_test()
    alike = []
    for place, cut in cuts.items():  # the digit that was written in this box lies in it
        if cut.state != "filled":
            continue
        seen = 255 - np.asarray(Image.fromarray(cut.pixels).convert("L"), dtype=np.float32)
        rows, columns = np.nonzero(seen - seen.min() > 0.5 * (seen.max() - seen.min()))
        inside = seen[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        digit = Image.fromarray(images[which[place], 0].numpy())
        written = digit.crop(digit.point(lambda level: 255 * (level > 127)).getbbox())
        small = Image.fromarray(inside).resize(written.size, Image.Resampling.BOX)
        pair = np.stack([np.asarray(written, np.float32).ravel(), np.asarray(small).ravel()])
        alike.append(np.corrcoef(pair)[0, 1])
    assert np.median(alike) > 0.9
    assert np.mean(np.array(alike) > 0.6) > 0.98


@pytest.mark.parametrize("seed", [3, 10, pytest.param(5, marks=pytest.mark.slow)])
def test_what_is_cut_out_is_read_as_well_as_what_was_written(seed: int) -> None:
    random = np.random.default_rng(seed)
    page, which = filled(random)
    cuts = cuts_of(photographed(page, WIDTHS[seed % len(WIDTHS)], random))
    network = load_pretrained()
    readings = read_digits(shipped(), [png(cut.pixels) for cut in cuts.values()], single=True)
    wrong = sum(
        isinstance(reading, Exception) or reading.least.digit != row
        for (row, _), reading in zip(cuts, readings, strict=True)
    )
    images, labels = digits_of_test()
    written = torch.tensor(list(which.values()))
    expected = network(images[written].float() / 255).argmax(dim=1) != labels[written]
    assert wrong <= int(expected.sum()) + 2


@pytest.mark.parametrize("bent", [{"bow": 2.5}, {"bow": -2.5}, {"lens": 0.05}, {"lens": -0.05}])
def test_a_bent_page_is_cut_where_its_lines_are(bent: dict[str, float]) -> None:
    random = np.random.default_rng(11)
    page, which = filled(random, left_out=0.1)
    assert_whole(cuts_of(photographed(page, 1000, random, 0, **bent)), which)


def test_a_bent_page_without_visible_lines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "LINE_DARKNESS", 0)
    random = np.random.default_rng(12)
    with pytest.raises(sheet.NoSheetError, match="lay it flat, and photograph it from above"):
        cuts_of(photographed(form(), 1400, random, lens=-0.05))


def test_a_fax_without_lines_and_with_few_digits_is_read() -> None:
    random = np.random.default_rng(19)
    page, which = filled(random, left_out=0.9)
    assert_whole(cuts_of(faxed(page, random)), which)


def test_a_digit_over_the_edge_of_its_box_is_left_out() -> None:
    random = np.random.default_rng(13)
    page, _ = filled(random, sides=(20, 22))  # 14 to 16 millimetres high, in boxes of 14.2
    states = [cut.state for cut in cuts_of(photographed(page, 1400, random)).values()]
    assert states.count("filled") < 40  # narrow ones
    assert states.count("over the edge") > 140


@pytest.mark.parametrize("pen", [0, 2, 3])
@pytest.mark.parametrize("fax", [False, True])
def test_digits_by_a_thick_pen_are_not_crossed_out(pen: float, fax: bool) -> None:
    random = np.random.default_rng(14)
    page, _ = filled(random, pen=pen)
    photo = faxed(page, random) if fax else photographed(page, 1400, random)
    states = [cut.state for cut in cuts_of(photo).values()]
    assert states.count("crossed out") <= 2  # of 200, 8s whose holes are filled
    assert states.count("filled") + states.count("over the edge") >= 198


@pytest.mark.parametrize("pen", [0.4, 1, 2.5])
def test_boxes_that_are_empty_or_crossed_out_are_left_out(pen: float) -> None:
    random = np.random.default_rng(1)
    page, which = filled(random, left_out=0.3, pen=pen if pen > 1 else 0)
    crossed = sorted(which)[::5]
    page = crossed_out(page, crossed, random, pen)
    cuts = cuts_of(photographed(page, 1600, random))
    states = [cuts[place].state for place in cuts if place not in which]
    assert states.count("empty") >= 0.8 * len(states)  # a cross may reach into the next box
    assert "filled" not in states
    states = [cuts[place].state for place in crossed]
    assert states.count("crossed out") >= 0.8 * len(crossed)
    assert "filled" not in states
    assert [cuts[place].state for place in which if place not in crossed].count("crossed out") <= 1


def test_two_forms_in_a_photo_are_refused() -> None:
    random = np.random.default_rng(15)
    page, _ = filled(random, left_out=0.5)
    desk = np.full((page.shape[0], 80, 3), 90, dtype=np.uint8)
    middle = page.shape[1] // 2
    beside = np.hstack([page, desk, page])
    with pytest.raises(sheet.NoSheetError, match="more than one form in the picture"):
        cuts_of(photographed(beside, 2000, random))
    halves = np.hstack([page[:, middle:], desk, page[:, :middle]])  # each mark is there once
    with pytest.raises(sheet.NoSheetError, match="photograph one form, laid flat"):
        cuts_of(photographed(halves, 2000, random))


def test_a_form_printed_on_us_letter_keeps_its_marks() -> None:
    random = np.random.default_rng(16)
    page, which = filled(random)
    assert_whole(cuts_of(photographed(on_letter(page), 1400, random)), which)


def test_an_earlier_form_is_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(17)
    monkeypatch.setattr(sheet, "DRAWN", range(4))
    form.cache_clear()
    page, which = filled(random)
    form.cache_clear()
    assert_whole(cuts_of(photographed(page, 1400, random)), which)


def test_a_form_that_nobody_filled_in_is_empty() -> None:
    for seed in range(5):
        random = np.random.default_rng(seed)
        cuts = cuts_of(photographed(form(), WIDTHS[seed], random))
        assert {cut.state for cut in cuts.values()} == {"empty"}


def test_one_mark_may_be_hidden_but_not_two() -> None:
    random = np.random.default_rng(2)
    page, which = filled(random)
    for number, (x, y) in enumerate(sheet.MARKS[i] for i in sheet.DRAWN):
        there = (round(DENSITY * side) for side in (y - 2, y + 12, x - 2, x + 12))
        top, bottom, left, right = there
        page[top:bottom, left:right] = (190, 150, 130)  # a thumb
        photo = photographed(page, 1600, random)
        if number == 0:
            assert_whole(cuts_of(photo), which)
            continue
        message = "no corner marks" if number == 3 else f"{3 - number} of the 4 corner marks"
        with pytest.raises(sheet.NoSheetError, match=message):
            cuts_of(photo)


def run(arguments: list[Any], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = 0
    try:
        sheet.main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else 1
        if isinstance(stopped.code, str):
            sys.stderr.write(f"{stopped.code}\n")
    return status, *capsys.readouterr()


@pytest.mark.parametrize("suffix", sheet.SUFFIXES)
def test_the_form_is_written(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"form{suffix}"
    status, out, err = run(["--output", path], capsys)
    assert (status, err) == (0, "")
    assert str(path) in out
    content = path.read_bytes()
    assert content.startswith({".pdf": b"%PDF", ".png": b"\x89PNG", ".svg": b"<?xml"}[suffix])
    if suffix == ".pdf":  # a page of A4 that lies on its side, in points
        assert re.search(rb"/MediaBox \[ 0 0 841\.\d+ 595\.\d+ \]", content)


def test_photos_are_added_to_a_folder_that_training_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(4)
    folder = tmp_path / "digits"
    for name in ("a", "b"):
        page, _ = filled(random, left_out=0.8 if name == "a" else 0.9)
        (tmp_path / f"{name}.jpg").write_bytes(photographed(page, 1400, random))
    (tmp_path / "note.jpg").write_text("no photo")
    blank = Image.new("RGB", (800, 600), "white")
    blank.save(tmp_path / "blank.png")
    photos = [tmp_path / name for name in ("a.jpg", "note.jpg", "b.jpg", "blank.png", "gone.jpg")]
    status, out, err = run(["--read", *photos, "--output", folder], capsys)
    assert status == 1
    assert [line for line in err.splitlines() if not line.startswith("note: ")] == [
        f"error: {photos[1]}: not an image in one of the formats PNG, JPEG, BMP, TIFF, WEBP, GIF",
        f"error: {photos[3]}: no corner marks found: is the whole form in the picture, and sharp?",
        f"error: {photos[4]}: No such file or directory",
    ]
    numbers = [int(number) for number in re.findall(r": (\d+) digits in", out)]
    files = {path: path.read_bytes() for path in folder.rglob("*.png")}
    assert len(files) == sum(numbers)
    assert len(numbers) == 2
    assert all(path.parent.name in "0123456789" for path in files)
    status, out, _ = run(["--read", photos[0], "--output", folder], capsys)  # once more
    assert status == 0
    again = {path: path.read_bytes() for path in folder.rglob("*.png")}
    assert len(again) == len(files) + numbers[0]
    assert files.items() <= again.items()
    found, notes = own_digits(folder, tmp_path / "kept.npz")
    assert (len(found.targets), notes) == (sum(numbers), [])


def test_what_is_left_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(18)
    page, which = filled(random, left_out=0.9)
    crossed = sorted(which)[:2]
    photo = photographed(crossed_out(page, crossed, random), 1400, random)
    pages = [open_image(io.BytesIO(photo)), Image.new("RGB", (9, 9))]
    pages[0].save(file := tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    status, out, err = run(["--read", file, "--output", tmp_path / "digits"], capsys)
    assert status == 0
    assert f"{len(which) - 2} digits in" in out
    assert "2 crossed out, 0 over the edge" in out
    boxes = ", ".join(f"{row}-{column + 1:02d}" for row, column in crossed)
    assert err.splitlines() == [
        f"note: {file}: left out as crossed out (row-box): {boxes}",
        f"note: {file}: the first of 2 pages was read",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --output"),
        (["--output", "form.docx"], "--output form.docx: a form is one of .pdf .png .svg"),
        (["--output", "there.pdf"], "--output there.pdf: Is a directory"),
        (["--output", "no/form.pdf"], "--output no/form.pdf: No such file or directory"),
        (["--read", "x.jpg", "--output", "file"], "--output file: with --read it is a folder"),
        (["--read", "--output", "d"], "argument --read: expected at least one argument"),
    ],
)
def test_a_wrong_command_is_told_in_a_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.pdf").mkdir()
    (tmp_path / "file").write_text("mine")
    status, out, err = run(arguments, capsys)
    assert status in (1, 2)
    assert out == ""
    assert err.splitlines()[-1].endswith(message)
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there.pdf"]
