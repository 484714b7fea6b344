"""Files that appear under their name complete, or not at all."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """`with written_whole(path) as partial:` gives a name beside `path` to write to.

    When the block ends, what was written takes the name `path`, in place of any file that had it.
    After an error, or if the process is killed, `path` is as it was.

    Raises:
        OSError: With the name of `path`, whichever call of the block it came from.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.errno is None:
            raise  # it has a message of its own
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


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
