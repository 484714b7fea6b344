"""The errors that a user can cause, and how an error is told: in a line, without a traceback."""

import sys
import textwrap
from pathlib import Path
from typing import NoReturn

EXTRAS = {  # module -> the extra of pyproject.toml that brings it
    **dict.fromkeys(("starlette", "uvicorn"), "demo"),
    **dict.fromkeys(("onnx", "onnx_ir", "onnxscript", "onnxruntime", "py_mini_racer"), "export"),
    "pillow_heif": "heic",
}


class SettingError(ValueError):
    """A flag, file or folder that the user gave cannot be used; the message names it."""


def explain(error: Exception) -> str:
    """The reason in a few words: of the system's errors without their number and file."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """How to install the module, if an extra brings it."""
    module = (error.name or "").partition(".")[0]
    return f"{module} is missing: {install(module)}" if module in EXTRAS else None


def install(module: str) -> str:
    """The command, in a clone: the name in the public registry is not this project's."""
    return f"pip install '.[{EXTRAS[module]}]'"


def command(verb: str = "") -> str:
    """The command with this verb, in the form in which it was typed."""
    typed = Path(sys.argv[0]).stem
    if verb and typed == verb:
        return f"python -m mnist_lit.{verb}"
    return f"{'python -m mnist_lit' if typed == '__main__' else 'mnist-lit'} {verb}".rstrip()


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
