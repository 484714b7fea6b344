"""One person's digits: a folder of image files -> images as MNIST's are, and a share of each batch.

Each file, DIGITS/7/any-name.png, shows one digit, and is prepared as predict --single does it. That
takes milliseconds a file, so it is kept: in a file beside MNIST's, by the content of each image and
by the version of all that prepares it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sized
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import PIL
import torch
from torch import Tensor
from torch.utils.data.distributed import DistributedSampler

from mnist_lit.errors import SettingError, explain, printable
from mnist_lit.files import read_regular, written_whole
from mnist_lit.images import MAX_BYTES, SUFFIXES
from mnist_lit.reading import read_digits
from mnist_lit.sureness import shipped

FEWEST = 5  # a fifth of them is held out
LABELS = tuple("0123456789")
LEFT_BY_SYSTEMS = ("__MACOSX", "Thumbs.db", "desktop.ini")
# What decides how a file is prepared; the weights choose between the ways to take a page.
PREPARE = ("images", "ink", "views", "seams", "page", "reading", "sureness")
ASSETS = ("digitnet.onnx", "detector.onnx")

Pixels = npt.NDArray[np.uint8]  # (28, 28), white on black


class OwnDigits(NamedTuple):
    """As torchvision's MNIST has them, in an order that depends on the images alone."""

    data: Tensor  # (N, 28, 28) uint8
    targets: Tensor  # (N,) int64


class MixedSampler(DistributedSampler[int]):
    """Puts so many of the last images of a data set into each batch, again and again.

    Args:
        dataset: Its first images are drawn as without them, each once an epoch.
        own: How many of the last ones are meant.
        of_batch: How many of them a batch of `batch_size` gets.
    """

    def __init__(
        self, dataset: Sized, own: int, of_batch: int, batch_size: int, **options: Any
    ) -> None:
        self.others, self.own, self.of_batch = len(dataset) - own, own, of_batch
        self.rest_of_batch = batch_size - of_batch
        super().__init__(range(self.others), **options)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        others = list(super().__iter__())
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        number = (len(self) - len(others)) * self.num_replicas
        rounds = -(-number // self.own)
        own = torch.cat([torch.randperm(self.own, generator=generator) for _ in range(rounds)])
        mine = iter((self.others + own)[self.rank : number : self.num_replicas].tolist())
        for start in range(0, len(others), self.rest_of_batch):
            chunk = others[start : start + self.rest_of_batch]
            yield from islice(mine, self._own_beside(len(chunk)))
            yield from chunk

    def __len__(self) -> int:
        batches, rest = divmod(self.num_samples, self.rest_of_batch)
        return self.num_samples + batches * self.of_batch + self._own_beside(rest)

    def _own_beside(self, others: int) -> int:
        """In a batch; the last of an epoch may be short."""
        return round(self.of_batch * others / self.rest_of_batch)


def own_digits(folder: Path, kept: Path) -> tuple[OwnDigits, list[str]]:
    """The digits in a folder, and a note for each file that is left out.

    Args:
        folder: With subfolders of some of the names 0 to 9.
        kept: The file in which what is prepared is kept for the next time.

    Raises:
        SettingError: The folder has another form, or too few digits; or shows one under two labels.
        OSError: `kept` cannot be written.
    """
    files, notes = _files(folder)
    digests: dict[bytes, tuple[int, Path]] = {}
    for path, label in files:
        try:
            digest = hashlib.sha256(read_regular(path, MAX_BYTES)).digest()
        except (OSError, ValueError) as error:
            notes.append(f"{_named(path)} is left out: {explain(error)}")
            continue
        other_label, other = digests.setdefault(digest, (label, path))
        if other_label != label:
            raise SettingError(
                f"--data.own_dir: {_named(other)} and {_named(path)} are the same image"
            )
    prepared = _load(kept)
    missing = {digest: entry for digest, entry in digests.items() if digest not in prepared}
    if missing:
        for digest, result in zip(missing, _prepare(missing.values()), strict=True):
            if isinstance(result, Exception):
                notes.append(f"{_named(digests.pop(digest)[1])} is left out: {explain(result)}")
            else:
                prepared[digest] = result
        _save(kept, prepared)
    by_content = sorted(digests)
    labels = [digests[digest][0] for digest in by_content]
    _check({path.parent for path, _ in files}, {path.parent for _, path in digests.values()}, notes)
    if len(labels) < FEWEST:
        raise SettingError(f"--data.own_dir {folder}: {len(labels)} digits, fewer than {FEWEST}")
    pixels = torch.from_numpy(np.stack([prepared[digest] for digest in by_content]))
    return OwnDigits(pixels, torch.tensor(labels)), notes


def _files(folder: Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """The image files with their labels, in the order of their names; notes of all others."""
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise SettingError(f"--data.own_dir {folder}: {explain(error)}") from error
    notes, files, seen = list[str](), list[tuple[Path, int]](), list[Path]()
    for path in filter(_by_a_person, inside):
        if not path.is_dir():
            notes.append(f"{_named(path)} is left out: it is in no folder 0 to 9")
        elif path.name not in LABELS:
            raise SettingError(f"--data.own_dir: {_named(path)} is no digit: 0 to 9 are")
        else:
            seen.append(path)
            for file in filter(_by_a_person, sorted(path.iterdir())):
                if file.name.lower().endswith(SUFFIXES):
                    files.append((file, int(path.name)))
                else:
                    notes.append(f"{_named(file)} is left out: no image, by its name")
    if not seen:
        raise SettingError(f"--data.own_dir {folder}: there is no folder 0 to 9 in it")
    _check(set(seen), {path.parent for path, _ in files}, notes)
    return files, notes


def _check(there: set[Path], filled: set[Path], notes: list[str]) -> None:
    for path in sorted(there - filled):
        why = [f": {note}" for note in notes if note.startswith(_named(path))]
        raise SettingError(
            f"--data.own_dir: {_named(path)} holds no image that can be read{''.join(why[:1])}"
        )


def _by_a_person(path: Path) -> bool:
    return not path.name.startswith(".") and path.name not in LEFT_BY_SYSTEMS


def _named(path: Path) -> str:
    return printable(str(path))


def _prepare(entries: Iterable[tuple[int, Path]]) -> list[Pixels | Exception]:
    """As predict --single does; one is only taken for turned where it is its label then."""
    labels, paths = zip(*entries, strict=True)
    judge = shipped()
    readings = list(read_digits(judge, paths, single=True))
    wrong = [
        i
        for i, (reading, label) in enumerate(zip(readings, labels, strict=True))
        if not isinstance(reading, Exception) and reading.least.digit != label
    ]
    upright = read_digits(judge, [paths[i] for i in wrong], single=True, turned=False)
    for i, reading in zip(wrong, upright, strict=True):
        readings[i] = reading
    return [
        reading
        if isinstance(reading, Exception)
        else (255 * reading.least.pixels).round().astype(np.uint8)
        for reading in readings
    ]


@cache
def _version() -> str:
    """Of the preparation: it changes with the code, the weights and the libraries behind it."""
    package, version = resources.files("mnist_lit"), hashlib.sha256()
    for name in (*(f"{name}.py" for name in PREPARE), *(f"assets/{name}" for name in ASSETS)):
        version.update(package.joinpath(name).read_bytes())
    version.update(f"{np.__version__} {cv2.__version__} {PIL.__version__}".encode())
    return version.hexdigest()


def _load(kept: Path) -> dict[bytes, Pixels]:
    """What was prepared before, if that was in this version; nothing in the file is executed."""
    try:
        with kept.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            version, digests, pixels = (arrays[name] for name in ("version", "digests", "pixels"))
            if str(version) != _version():
                return {}
    except Exception:  # missing, or damaged in any way: it is made anew
        return {}
    number = len(digests)
    forms = (digests.dtype, digests.shape, pixels.dtype, pixels.shape)
    if forms != (np.uint8, (number, 32), np.uint8, (number, 28, 28)):
        return {}
    return dict(zip(map(bytes, digests), pixels, strict=True))


def _save(kept: Path, prepared: dict[bytes, Pixels]) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    digests = np.frombuffer(b"".join(prepared), dtype=np.uint8).reshape(-1, 32)
    pixels = np.stack(list(prepared.values())) if prepared else np.empty((0, 28, 28), np.uint8)
    with written_whole(kept) as partial, partial.open("wb") as file:
        np.savez_compressed(file, version=_version(), digests=digests, pixels=pixels)
