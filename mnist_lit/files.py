"""Files that appear under their name complete, or not at all."""

import secrets
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
