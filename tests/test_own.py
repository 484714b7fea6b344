"""One's own digits: a folder of image files, checked, prepared as predict does, and kept."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_lit import own
from mnist_lit.assets import test_digits as digits_of_test
from mnist_lit.errors import SettingError
from mnist_lit.own import FEWEST, own_digits
from mnist_lit.reading import read_digits
from mnist_lit.sureness import shipped


def draw(folder: Path, numbers: range) -> list[Path]:
    """Test digits as image files, dark on light, in folders of their labels."""
    images, labels = digits_of_test()
    paths = []
    for i in numbers:
        path = folder / str(int(labels[i])) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - images[i, 0].numpy()).resize((112, 112)).save(path)
        paths.append(path)
    return paths


def test_a_file_is_prepared_as_predict_prepares_it(tmp_path: Path) -> None:
    paths = draw(tmp_path / "own", range(12))
    found, notes = own_digits(tmp_path / "own", tmp_path / "kept.npz")
    assert notes == []
    assert found.data.shape == (12, 28, 28)
    assert found.data.dtype == torch.uint8
    assert found.targets.dtype == torch.int64
    got = sorted((int(label), pixels.tolist()) for label, pixels in zip(*found[::-1], strict=True))
    expected = []
    for path, reading in zip(paths, read_digits(shipped(), paths, True), strict=True):
        assert not isinstance(reading, Exception)
        [digit] = reading.digits
        pixels = (255 * digit.pixels).round().astype(np.uint8)
        expected.append((int(path.parent.name), pixels.tolist()))
    assert got == sorted(expected)


def test_a_digit_that_is_misread_is_not_taken_for_turned(tmp_path: Path) -> None:
    [path] = draw(tmp_path / "right", range(1))  # a seven
    for i, label in enumerate("01234"):
        for turn in (0, 90):  # what lies on its side is read when it is turned
            to = tmp_path / "own" / label / f"{i}-{turn}.png"
            to.parent.mkdir(parents=True, exist_ok=True)
            image = Image.open(path).rotate(turn)
            image.resize((100 + i, 100 + i)).save(to)
    found, _ = own_digits(tmp_path / "own", tmp_path / "kept.npz")
    wide = (found.data > 100).any(dim=1).sum(dim=1) > (found.data > 100).any(dim=2).sum(dim=1)
    assert int(wide.sum()) == 5


def test_what_cannot_be_used_is_named_and_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    draw(folder, range(8))
    (folder / "7" / "broken.png").write_bytes(b"nonsense")
    (folder / "7" / "bad\x1bname.png").write_bytes(b"")
    (folder / "7" / "notes.txt").write_text("mine")
    (folder / "7" / ".DS_Store").write_text("")
    (folder / ".git").mkdir()
    (folder / "readme.md").write_text("")
    os.mkfifo(folder / "7" / "pipe.png")
    (folder / "7" / "deep.png").mkdir()
    found, notes = own_digits(folder, tmp_path / "kept.npz")
    assert len(found.targets) == 8
    assert sorted(note.removeprefix(f"{folder}/") for note in notes) == [
        "7/bad\\x1bname.png is left out: the file is empty",
        "7/broken.png is left out: not an image in one of the formats PNG, JPEG, BMP, TIFF, WEBP,"
        " GIF",
        "7/deep.png is left out: Is a directory",
        "7/notes.txt is left out: no image, by its name",
        "7/pipe.png is left out: not a regular file",
        "readme.md is left out: it is in no folder 0 to 9",
    ]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "--data.own_dir FOLDER: No such file or directory"),
        ("a file", "--data.own_dir FOLDER: Not a directory"),
        ("nothing in it", "--data.own_dir FOLDER: there is no folder 0 to 9 in it"),
        ("10", "--data.own_dir: FOLDER/10 is no digit: 0 to 9 are"),
        ("seven", "--data.own_dir: FOLDER/seven is no digit: 0 to 9 are"),
        ("empty", "--data.own_dir: FOLDER/8 holds no image that can be read"),
        ("unreadable", "--data.own_dir: FOLDER/8 holds no image that can be read: FOLDER/8/x.png"),
        ("few", f"--data.own_dir FOLDER: 4 digits, fewer than {FEWEST}"),
        ("two labels", "--data.own_dir: FOLDER/7/0.png and FOLDER/8/0.png are the same image"),
    ],
)
def test_a_folder_of_another_form_is_refused(fault: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    if fault == "a file":
        folder.write_text("")
    elif fault != "missing":
        folder.mkdir()
        [first, *_] = draw(folder, range(4 if fault == "few" else 8)) if fault[0] != "n" else [None]
        if fault in ("10", "seven", "empty", "unreadable", "two labels"):
            other = folder / (fault if fault in ("10", "seven") else "8")
            other.mkdir()
            if fault == "unreadable":
                (other / "x.png").write_text("")
            elif fault == "two labels":
                assert first
                (other / first.name).write_bytes(first.read_bytes())
    with pytest.raises(SettingError) as error:
        own_digits(folder, tmp_path / "kept.npz")
    assert str(error.value).replace(str(folder), "FOLDER").startswith(message)


def test_one_image_in_two_files_counts_once(tmp_path: Path) -> None:
    [path, *_] = draw(tmp_path / "own", range(8))
    path.with_name("again.png").write_bytes(path.read_bytes())
    found, _ = own_digits(tmp_path / "own", tmp_path / "kept.npz")
    assert len(found.targets) == 8


def test_what_was_prepared_is_kept_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kept = tmp_path / "own", tmp_path / "kept.npz"
    paths = draw(folder, range(8))
    first, _ = own_digits(folder, kept)
    asked: list[list[tuple[int, Path]]] = []
    prepare = own._prepare

    def counted(entries: Iterable[tuple[int, Path]]) -> list[own.Pixels | Exception]:
        asked.append(list(entries))
        return prepare(asked[-1])

    monkeypatch.setattr(own, "_prepare", counted)
    paths[0].rename(paths[0].with_name("other name.png"))
    again, _ = own_digits(folder, kept)
    assert torch.equal(first.data, again.data)
    assert torch.equal(first.targets, again.targets)
    assert asked == []
    draw(folder, range(8, 9))
    assert len(own_digits(folder, kept)[0].targets) == 9
    assert [len(entries) for entries in asked] == [1]
    own_digits(folder, kept)
    assert len(asked) == 1
    monkeypatch.setattr(own, "_version", lambda: "another")
    own_digits(folder, kept)
    assert len(asked[1]) == 9


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", None])
def test_a_damaged_keep_is_made_anew(content: bytes | None, tmp_path: Path) -> None:
    folder, kept = tmp_path / "own", tmp_path / "kept.npz"
    draw(folder, range(8))
    first, _ = own_digits(folder, kept)
    if content is None:
        with kept.open("wb") as file:
            np.savez(
                file, version=own._version(), digests=np.zeros((8, 32)), pixels=np.zeros(8, object)
            )
    else:
        kept.write_bytes(content)
    again, _ = own_digits(folder, kept)
    assert torch.equal(first.data, again.data)
    assert own._load(kept).keys() != {}
    assert len(own._load(kept)) == 8
