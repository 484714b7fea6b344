"""What `torch.save` put into a file that nobody trusts: plain values and tensors, nothing else.

Nothing is unpickled. A pickle is a program for a small machine; this one knows only the few of its
instructions that a checkpoint of numbers needs, calls nothing by name, and builds no more than the
file has bytes for.
"""

import io
import math
import pickletools
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnist_lit.files import read_regular

MAX_BYTES = 100_000_000  # of the file; a checkpoint of a fit has half a million
MAX_PROGRAM = 500_000  # bytes of its pickle; a checkpoint's has 24,000
MAX_PARTS = 20_000  # of the archive; a checkpoint has 160
MAX_DEPTH = 20  # of containers in containers; a checkpoint has 8
DTYPES = {
    "torch FloatStorage": torch.float32,
    "torch DoubleStorage": torch.float64,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ByteStorage": torch.uint8,
}
TENSOR = "torch._utils _rebuild_tensor_v2"
DICTS = {"collections OrderedDict": dict, "collections Counter": Counter}
PLAIN = (str, int, float, bool, type(None))
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # in a name it would forge lines on a terminal


class _Name(str):
    """A class or function as the file names it; it is never looked up."""


class _Storage:
    def __init__(self, values: Tensor) -> None:
        self.values = values  # (N,)


def load_safely(path: str | Path) -> Any:
    """What `torch.save` put into a file, as plain values, lists, dicts and tensors on the CPU.

    Raises:
        OSError: The file cannot be opened.
        ValueError: It holds something else, is damaged, or is larger than it can be.
    """
    try:
        content = read_regular(path, MAX_BYTES)
        return _checked(_unpacked(content))
    except OSError:
        raise
    except Exception as error:  # arbitrary bytes make a reader raise arbitrary errors
        raise ValueError("not a file of weights that can be read safely") from error


def _unpacked(content: bytes) -> Any:
    """The bytes of an archive as torch writes it since 1.6: uncompressed, each part once."""
    # A directory of millions of parts would take a gigabyte to read; each has this signature.
    if content.count(b"PK\x01\x02") > MAX_PARTS:
        raise ValueError("too many parts")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {part.filename: part for part in archive.infolist()}
        if len(parts) < len(archive.infolist()):
            raise ValueError("two parts of one name")
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts.values()):
            raise ValueError("compressed")
        if sum(part.file_size for part in parts.values()) > len(content):
            raise ValueError("parts that overlap")
        [program] = (name for name in parts if name.endswith("/data.pkl"))
        folder = program.removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in parts and archive.read(parts[order]) != sys.byteorder.encode():
            raise ValueError("of a machine with another order of bytes")
        if parts[program].file_size > MAX_PROGRAM:
            raise ValueError("too large a pickle")
        storages: dict[str, _Storage] = {}

        def storage(kind: str, dtype: _Name, key: str, _: str, numel: int) -> _Storage:
            if key not in storages:
                raw = archive.read(parts[f"{folder}data/{key}"])
                if kind != "storage" or len(raw) != numel * DTYPES[dtype].itemsize:
                    raise ValueError("a storage of another size")
                storages[key] = _Storage(
                    torch.frombuffer(bytearray(raw), dtype=DTYPES[dtype])
                    if raw
                    else torch.empty(0, dtype=DTYPES[dtype])
                )
            if storages[key].values.dtype != DTYPES[dtype]:
                raise ValueError("a storage of two types")
            return storages[key]

        return _run(archive.read(parts[program]), storage)


def _run(program: bytes, storage: Callable[..., _Storage]) -> Any:
    """What the pickle builds; a KeyError, IndexError, TypeError or ValueError if it errs."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def items() -> list[Any]:
        """What was pushed since the last mark."""
        start = marks.pop()
        taken = stack[start:]
        del stack[start:]
        return taken

    def put(target: Any, pairs: list[Any]) -> None:
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if type(key) not in (str, int):  # the hash of another may take forever, or the stack
                raise ValueError("a key that is neither a word nor a number")
            target[key] = value

    instructions: Iterable[tuple[Any, Any, Any]] = pickletools.genops(program)
    for instruction, argument, _ in instructions:
        match instruction.name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True}.get(instruction.name, False))
            case "BININT" | "BININT1" | "BININT2" | "LONG1":
                if not -(2**63) <= argument < 2**63:
                    raise ValueError("a number of more than 64 bits")
                stack.append(argument)
            case "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE":
                argument.encode()  # which half a character cannot be
                if CONTROL.search(argument):
                    raise ValueError("control characters")
                stack.append(argument)
            case "MARK":
                marks.append(len(stack))
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(items()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                marks.append(len(stack) - int(instruction.name[-1]))
                stack.append(tuple(items()))
            case "APPEND":
                value = stack.pop()
                _mutable(stack[-1], list).append(value)
            case "APPENDS":
                values = items()
                _mutable(stack[-1], list).extend(values)
            case "SETITEM":
                pair = [stack.pop(-2), stack.pop()]
                put(_mutable(stack[-1], dict), pair)
            case "SETITEMS":
                pairs = items()
                put(_mutable(stack[-1], dict), pairs)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                # A container in two places could hold itself, or double its size each time.
                if isinstance(memo[argument], dict | list) or (
                    isinstance(memo[argument], tuple)
                    and not all(type(item) in PLAIN for item in memo[argument])
                ):
                    raise ValueError("a container in two places")
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_Name(argument))
            case "BINPERSID":
                stack.append(storage(*stack.pop()))
            case "REDUCE":
                arguments, name = stack.pop(), stack.pop()
                if type(name) is not _Name or name not in (TENSOR, *DICTS):
                    raise ValueError(f"a call of {name}")
                if name == TENSOR:
                    stack.append(_tensor(*arguments))
                else:
                    made: Any = DICTS[name]()
                    for mapping in arguments:
                        put(made, [part for pair in mapping.items() for part in pair])
                    stack.append(made)
            case "BUILD":  # the versions of the modules in a state_dict, which may be left out
                stack.pop()
                if not isinstance(stack[-1], dict):
                    raise ValueError("an object")
            case _:
                raise ValueError(f"the instruction {instruction.name}")
    [content] = stack
    return content


def _mutable(value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind):
        raise ValueError("items of something else")
    return value


def _tensor(
    storage: _Storage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    *_: Any,  # whether it requires a gradient, hooks
) -> Tensor:
    """A view of a storage that has at least as many values as the view."""
    values = storage.values
    numbers = (offset, *size, *stride)
    if len(size) > 8 or not all(type(n) is int and 0 <= n <= MAX_BYTES for n in numbers):
        raise ValueError("no such shape")
    if math.prod(size) > len(values):
        raise ValueError("a small storage that claims to be a large tensor")
    return values.as_strided(size, stride, offset)


def _checked(content: Any) -> Any:
    """The content, if it is of plain values and tensors only, and neither too deep nor too large.

    All of it is a tree, as no container is in two places.
    """
    waiting, numel = [(content, 0)], 0
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError("too deep")
        if isinstance(item, Tensor):
            numel += item.numel()  # many may be of one storage
        elif isinstance(item, dict | list | tuple):
            inside = item.values() if isinstance(item, dict) else item
            waiting += [(value, depth + 1) for value in inside]
        elif type(item) not in PLAIN:
            raise ValueError(f"a {type(item).__name__}")
    if numel > MAX_BYTES / 4:
        raise ValueError("too large")
    return content
