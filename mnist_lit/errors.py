"""The errors that a user can cause, and how an error is told: in a line, without a traceback."""

import sys
import textwrap
from typing import NoReturn


class SettingError(ValueError):
    """A flag, file or folder that the user gave cannot be used; the message names it."""


def explain(error: Exception) -> str:
    """The reason in a few words: of the system's errors without their number and file."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def printable(name: str) -> str:
    """A file's name on one line: its control characters as Python writes them."""
    return "".join(
        c if c.isprintable() or "\ud800" <= c <= "\udfff" else repr(c)[1:-1] for c in name
    )


def fail(error: Exception, status: int) -> NoReturn:
    """One line on standard error, then exit."""
    message = textwrap.shorten(str(error), 1000)
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status)
