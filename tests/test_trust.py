"""Only plain values and tensors come out of a file, and no file does harm."""

import io
import os
import pickle
import struct
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Survived

from mnist_lit.network import DigitNet
from mnist_lit.trust import DTYPES, MAX_BYTES, load_safely
from mnist_lit.weights import load_network


def archive(program: bytes, *storages: bytes, repeated: int = 0, method: int = 0) -> bytes:
    """A file as torch writes it, of this pickle and these storages."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as parts:
        warnings.simplefilter("ignore")  # a repeated name
        parts.writestr("x/data.pkl", program)
        for key, storage in enumerate(storages):
            for _ in range(1 + repeated):
                parts.writestr(f"x/data/{key}", storage)
    return file.getvalue()


def test_a_file_is_not_unpacked_like_a_bomb(tmp_path: Path) -> None:
    torch.save(DigitNet(2, 2).state_dict(), tmp_path / "weights.pt")
    with (
        zipfile.ZipFile(tmp_path / "weights.pt") as whole,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name) + bytes(MAX_BYTES // len(whole.namelist())))
    assert (tmp_path / "bomb.pt").stat().st_size < MAX_BYTES / 100
    with pytest.raises(ValueError, match="read safely"):
        load_network(tmp_path / "bomb.pt")


def rezipped(network: DigitNet) -> tuple[bytes, bytes, bytes]:
    """Its weights as torch saves them: the parts, their directory and the end record."""
    saved, plain = io.BytesIO(), io.BytesIO()
    torch.save(network.state_dict(), saved)
    with zipfile.ZipFile(saved) as parts, zipfile.ZipFile(plain, "w") as copy:
        for name in parts.namelist():
            copy.writestr(name, parts.read(name))
    content = plain.getvalue()
    size, start = struct.unpack("<II", content[-10:-2])
    return content[:start], content[start : start + size], content[start + size :]


def test_load_network_loads_what_it_has_measured(tmp_path: Path) -> None:
    """A directory before the end record, where Python looks, and another at its stated offset."""
    hidden, hidden_directory, _ = rezipped(DigitNet(8, 8))
    shown, directory, end = rezipped(DigitNet(2, 2))
    moved, position = bytearray(directory), 0
    while position < len(moved):  # Python adds what it takes for a prefix to each offset
        name_length, extra, comment = struct.unpack_from("<HHH", moved, position + 28)
        [offset] = struct.unpack_from("<I", moved, position + 42)
        struct.pack_into("<I", moved, position + 42, offset + len(hidden) - len(shown))
        position += 46 + name_length + extra + comment
    end = end[:-6] + struct.pack("<I", len(hidden)) + end[-2:]
    path = tmp_path / "weights.pt"
    path.write_bytes(hidden + hidden_directory + shown + bytes(moved) + end)
    loaded_by_torch = torch.load(path, weights_only=True)
    assert loaded_by_torch["input.conv.weight"].shape[0] == 8
    assert load_network(path).settings["narrow"] == 2


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_load_network_refuses_a_number_that_claims_to_be_a_large_tensor(tmp_path: Path) -> None:
    weights = DigitNet().state_dict()
    weights["input.conv.weight"] = torch.zeros(1).expand(10**9, 1, 3, 3)
    torch.save(weights, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="not a file of weights that can be read safely"):
        load_network(tmp_path / "weights.pt")


def test_load_network_executes_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made by the payload"
    torch.save(DigitNet().state_dict() | {"payload": Payload(made)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="read safely"):
        load_network(tmp_path / "weights.pt")
    assert not made.exists()
    with pytest.raises(FileNotFoundError):
        load_network(tmp_path / "missing.pt")


def nested(depth: int, key: bool = False) -> bytes:
    """A pickle of a tuple in a tuple ..., or of a dict that has it as a key."""
    program = b")" + b"\x85" * depth
    return b"\x80\x02" + (b"}" + program + b"K\x01s." if key else program + b".")


def doubled(times: int, key: bool) -> bytes:
    """A tuple of two of the same tuple of two ...: a few bytes that stand for 2**times items."""
    program = b")q\x00"
    for n in range(times):
        program += b"h" + bytes([n]) + b"\x86q" + bytes([n + 1])
    return b"\x80\x02" + (b"}" + program + b"K\x01s." if key else program + b".")


def tensor(size: tuple[int, ...], stride: tuple[int, ...], numel: int, offset: int = 0) -> bytes:
    """A pickle of a float32 tensor with storage 0."""

    class Named:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (Stored(), offset, size, stride, False, {})

    class Stored:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, item: Any) -> Any:
            if isinstance(item, Stored):
                return "storage", torch.FloatStorage, "0", "cpu", numel
            return None

    file = io.BytesIO()
    Pickler(file, protocol=2).dump(Named())
    return file.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "a tuple 50,000 deep": lambda: archive(nested(50_000)),
    "a key 50,000 deep": lambda: archive(nested(50_000, key=True)),
    "lists twenty deep": lambda: archive(b"\x80\x02" + b"]" * 25 + b"a" * 24 + b"."),
    "a tuple doubled 60 times": lambda: archive(doubled(60, key=False)),
    "a key doubled 60 times": lambda: archive(doubled(60, key=True)),
    "a list in itself": lambda: archive(b"\x80\x02]q\x00h\x00a."),
    "a name twice": lambda: archive(tensor((2,), (1,), 2), bytes(8), repeated=1),
    "a compressed part": lambda: archive(tensor((2,), (1,), 2), bytes(8), method=8),
    "a storage too small": lambda: archive(tensor((4,), (1,), 4), bytes(8)),
    "a storage too large": lambda: archive(tensor((1,), (1,), 1), bytes(8)),
    "a stride of zero": lambda: archive(tensor((400_000, 2), (0, 1), 2), bytes(8)),
    "rows that overlap": lambda: archive(tensor((2, 2), (1, 1), 3), bytes(12)),
    "a view past its storage": lambda: archive(tensor((2,), (4,), 2), bytes(8)),
    "an offset past its storage": lambda: archive(tensor((1,), (1,), 2, offset=2), bytes(8)),
    "a negative stride": lambda: archive(tensor((2,), (-1,), 2, offset=1), bytes(8)),
    "a number of 401 digits": lambda: archive(pickle.dumps(-(10**400), 2)),
    "half a character": lambda: archive(b"\x80\x02X\x03\x00\x00\x00\xed\xa0\x80."),
    "a line break in a name": lambda: archive(pickle.dumps("a\nb", 2)),
    "a function": lambda: archive(pickle.dumps(print, 2)),
    "no pickle": lambda: archive(b""),
    "a mark without items": lambda: archive(b"\x80\x02(."),
    "a pickle of two megabytes": lambda: archive(pickle.dumps("x" * 2_000_000, 2)),
    "30,000 parts": lambda: archive(pickle.dumps(1, 2), *[b""] * 30_000),
    "torch's old format": lambda: old_format({"weight": torch.zeros(1)}),
    "a bare pickle": lambda: pickle.dumps({"weight": 1}, 2),
    "a file of zeros": lambda: bytes(1000),
    "nothing": lambda: b"",
}


def old_format(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.mark.parametrize("kind", FILES)
def test_what_a_checkpoint_never_holds_is_refused(
    kind: str, tmp_path: Path, survived: Survived
) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(FILES[kind]())
    with pytest.raises(ValueError, match="not a file of weights that can be read safely"):
        load_safely(path)
    survived("crafted checkpoint")


def test_plain_values_and_tensors_come_out_as_they_went_in(tmp_path: Path) -> None:
    base = torch.arange(24.0)
    content = {
        "plain": [1, -(2**63), 2.5, float("inf"), True, False, None, "a word", (), (1, (2, "b"))],
        7: Counter({3: 2}),
        "views": [base[4:8], base.view(4, 6).t(), base.view(2, 3, 2, 2)[:, :, :1]],
        "kinds": [torch.zeros(2, dtype=kind) for kind in DTYPES.values()],
        "empty": [torch.zeros(0, 1, 3), torch.tensor(3.0), {}, []],
    }
    torch.save(content, tmp_path / "x")
    loaded = load_safely(tmp_path / "x")
    assert repr(loaded) == repr(content)
    assert loaded["views"][1].stride() == (1, 6)
    assert [tensor.dtype for tensor in loaded["kinds"]] == [*DTYPES.values()]


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe"):
        with pytest.raises(ValueError, match="read safely"):
            load_network(path)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10 * MAX_BYTES)
    with pytest.raises(ValueError, match="read safely"):
        load_network(tmp_path / "sparse")
