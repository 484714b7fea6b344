"""Files that appear under their name complete, or not at all, and are read only if they end.

And where the newest fit left its checkpoints, which a command finds without loading torch.
"""

import argparse
import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from mnist_lit.errors import SettingError

_partial: set[Path] = set()  # what is being written in this process


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """`with written_whole(path) as partial:` gives a name beside `path` to write to.

    When the block ends, what was written takes the name `path`, in place of any file that had it,
    whose owner and permissions it gets. A link stays, and what it leads to is written. After an
    error, or if the process is killed, `path` is as it was.

    Raises:
        OSError: With the name of `path`, whichever call of the block it came from; also if it is
            a folder, a device or a pipe.
    """
    target = Path(os.path.realpath(path))
    partial = target.parent / f".{target.name}.{secrets.token_hex(4)}{target.suffix}"
    _partial.add(partial)
    try:
        before = _replaceable(target)
        if before:
            # At once, so that nobody else can read what is not finished yet, either.
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            _take_over(partial, before)
        yield partial
        partial.replace(target)
    except OSError as error:
        if error.errno is None:
            raise  # it has a message of its own
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        _partial.discard(partial)


def discard_partial() -> None:
    """Remove what is not finished: for a signal's handler that ends the process."""
    for partial in _partial:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _replaceable(target: Path) -> os.stat_result | None:
    """What is known of the file, None if there is none; an OSError if open() had failed, too."""
    try:
        before = target.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(before.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(before.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return before


def _take_over(partial: Path, before: os.stat_result) -> None:
    """Its owner, if the system lets us, and its permissions."""
    if hasattr(os, "chown"):
        with suppress(PermissionError):
            os.chown(partial, before.st_uid, before.st_gid)
    partial.chmod(stat.S_IMODE(before.st_mode) & 0o777)


def free_path(folder: Path, name: str, taken: set[Path]) -> Path:
    """folder/NAME.png, or NAME-2.png and so on: nothing is written over, in this run or before."""
    for number in count(1):
        path = folder / f"{name if number == 1 else f'{name}-{number}'}.png"
        if path not in taken and not os.path.lexists(path):
            taken.add(path)
            return path
    raise AssertionError


def read_regular(path: str | Path, most: int) -> bytes:
    """The bytes of a file of up to `most` of them.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is a pipe or a device, which may never end, or has more bytes.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError("not a regular file")
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError("too large")
    return content


def find_checkpoint(ckpt_path: str, logs: Path) -> str | None:
    """A path as it is; `last` or `best` as that file of the newest fit under `logs` that saved one.

    None if each fit there was broken off before its first epoch ended.

    Raises:
        SettingError: There is no such file, or no fit, or the newest validated nothing.
    """
    if ckpt_path not in ("last", "best"):
        if not Path(ckpt_path).is_file():
            raise SettingError(f"--ckpt_path {ckpt_path}: no such file")
        return ckpt_path
    saved = [*logs.glob("*/checkpoints/last.ckpt")]
    if ckpt_path == "best":
        saved += logs.glob("*/checkpoints/best*.ckpt")
    if not saved:
        if newest(logs.glob("*/config.yaml")) is None:
            raise SettingError(f"--ckpt_path {ckpt_path}: no fit has begun under {logs}")
        return None
    folder = max(saved, key=_written).parent
    [*found] = folder.glob(f"{ckpt_path}*.ckpt")
    if not found:
        raise SettingError(f"--ckpt_path best: {folder.parent} validated nothing: use last")
    # Two best ones: killed between writing the better and removing the other.
    return str(max(found))


def last_or_best(ckpt: str) -> str:
    """Find `last` or `best` for an argument --ckpt, as `mnist-lit train` finds it here.

    Raises:
        argparse.ArgumentTypeError: The newest fit saved no such checkpoint, or there is no fit.
    """
    if ckpt not in ("last", "best"):
        return ckpt
    try:
        found = find_checkpoint(ckpt, Path("lightning_logs"))
    except SettingError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("--ckpt_path ")) from error
    if found is None:
        raise argparse.ArgumentTypeError(f"{ckpt}: the newest fit ended in its first epoch")
    print(f"--ckpt {ckpt} is {found}", file=sys.stderr)
    return found


def newest(paths: Iterable[Path]) -> Path | None:
    return max(paths, key=_written, default=None)


def _written(path: Path) -> float:
    return path.stat().st_mtime
