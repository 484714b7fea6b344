"""Files made to harm, and a process that reads them: `python tests/hostile.py FOLDER`.

For every file in the folder, in the order of their names, it prints a JSON line: the name, what
came of it (used, refused or a traceback), the seconds, and the most memory so far.
"""

import io
import json
import pickletools
import re
import struct
import sys
import time
import traceback
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mnist_lit.network import DigitNet, TinyNet

Random = np.random.Generator
KINDS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")


def archive(program: bytes, *storages: bytes) -> bytes:
    """A file as torch writes it, of this pickle and these storages."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as parts:
        parts.writestr("x/data.pkl", program)
        for key, storage in enumerate(storages):
            parts.writestr(f"x/data/{key}", storage)
    return file.getvalue()


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def pixels(random: Random, *shape: int) -> Image.Image:
    return Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def mutated(original: bytes, random: Random) -> bytes:
    content = bytearray(original)
    for _ in range(random.integers(1, 20)):
        content[random.integers(len(content))] = random.integers(256)
    if random.random() < 0.3:
        del content[random.integers(len(content)) :]
    return bytes(content)


def crafted_checkpoints(random: Random) -> Iterator[bytes]:
    """150 of them."""
    for depth in (10, 100, 1000, 10_000, 100_000):
        tuples, lists = b")" + b"\x85" * depth, b"]" * depth + b"a" * (depth - 1)
        for program in (tuples + b".", b"}" + tuples + b"K\x01s.", lists + b"."):
            yield archive(b"\x80\x02" + program)
    for times in (5, 30, 100, 250):
        doubled = b")q\x00" + b"".join(
            b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(times)
        )
        for program in (doubled + b".", b"}" + doubled + b"K\x01s."):
            yield archive(b"\x80\x02" + program)
    for opcode in pickletools.opcodes:  # 68 of them, each with something on the stack
        yield archive(b"\x80\x02K\x01(K\x02K\x03" + opcode.code.encode("latin-1") + bytes(8) + b".")
    for exponent in (5, 10, 20, 30, 38):
        for network in (DigitNet(3, 3), TinyNet(3, 5)):
            weights = network.state_dict()
            for name in weights:
                if weights[name].is_floating_point():
                    weights[name] = weights[name] * 10.0**exponent
            yield saved(weights)
    for channels in (257, 1000, 2000):
        yield saved(DigitNet(channels, 1).state_dict())
        yield saved(DigitNet(1, channels).state_dict())
    number = 0
    while number < 150 - 5 * 3 - 8 - len(pickletools.opcodes) - 10 - 6:
        weights = DigitNet(3, 3).state_dict()
        shape = [int(n) for n in 10 ** random.uniform(0, 5, 4)]
        weights["input.conv.weight"] = torch.zeros(1).expand(shape)
        number += 1
        yield saved(weights)


def crafted_images(random: Random) -> Iterator[bytes]:
    """150 of them."""
    whole = {kind: encoded(pixels(random, 60, 40, 3), kind) for kind in KINDS}
    for kind in KINDS:
        for part in np.linspace(0.02, 0.99, 12):
            yield whole[kind][: int(part * len(whole[kind]))]
        for size in ((1, 60_000), (60_000, 1), (7000, 7000)):
            if kind == "WEBP":
                size = min(size[0], 16_000), min(size[1], 16_000)
            yield encoded(Image.new("L", size, 255), kind)
        yield encoded(pixels(random, 3000, 3000), kind)  # all noise
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16", "I", "F", "CMYK", "YCbCr"):
        kind = "PNG" if mode in ("1", "L", "LA", "P", "RGBA", "I;16") else "TIFF"
        for size in ((1, 1), (2, 500), (300, 300)):
            yield encoded(Image.new(mode, size), kind)
    for width, height in ((2**31 - 1, 2**31 - 1), (2**16, 2**16), (10**9, 1), (0, 5)):
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b"")]
        yield b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))
            for tag, data in chunks
        )
    for number in (10, 100, 500, 1000):
        progressive = encoded(Image.new("L", (3000, 3000), 200), "JPEG", progressive=True)
        last = progressive.rindex(b"\xff\xda")
        yield progressive[:-2] + progressive[last:-2] * number + progressive[-2:]
    for _ in range(150 - 6 * 16 - 30 - 4 - 4):
        yield mutated(whole["TIFF"][:200], random) + random.bytes(10_000)


def write_all(folder: Path, mutations: int) -> int:
    """Writes `mutations` of checkpoints and as many of images, and 300 crafted files -> all."""
    random = np.random.default_rng(0)
    checkpoint = saved({"state_dict": DigitNet(2, 2).state_dict(), "hyper_parameters": {}})
    images = [encoded(pixels(random, 60, 40, 3), kind) for kind in KINDS]
    files = {
        "ckpt": [mutated(checkpoint, random) for _ in range(mutations)]
        + [*crafted_checkpoints(random)],
        "image": [mutated(images[i % len(images)], random) for i in range(mutations)]
        + [*crafted_images(random)],
    }
    for kind, contents in files.items():
        for number, content in enumerate(contents):
            (folder / f"{number:05}.{kind}").write_bytes(content)
    return sum(map(len, files.values()))


def read(path: Path) -> str:
    """As the commands do."""
    from mnist_lit.decoder import decode
    from mnist_lit.weights import load_network

    try:
        if path.suffix == ".ckpt":
            load_network(path)
        else:
            decode(path.read_bytes())
    except ValueError:  # UnreadableImageError is one, too
        return "refused"
    except Exception:
        return traceback.format_exc()
    return "used"


def most_memory() -> float:
    """Megabytes; getrusage() would count those of the process that started this one, too."""
    [line] = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) / 1024


def main() -> None:
    for path in sorted(Path(sys.argv[1]).iterdir()):
        print(json.dumps({"started": path.name}), flush=True)
        started = time.perf_counter()
        outcome = read(path)
        seconds = time.perf_counter() - started
        megabytes = most_memory()
        line = {"file": path.name, "outcome": outcome, "seconds": seconds, "MB": megabytes}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
