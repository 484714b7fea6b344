"""`mnist-lit train ...` and so on: what `python -m mnist_lit.train ...` and so on do.

`guarded()` runs the commands of both forms: what ends one from outside is told in a line.
"""

import gc
import importlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from mnist_lit import __version__
from mnist_lit.errors import command, explain, missing_extra
from mnist_lit.files import discard_partial

VERBS = {
    "train": "train on MNIST, or validate, test and predict with a checkpoint",
    "predict": "classify the digits in image files",
    "export": "write the weights as ONNX, torch.export or a file of weights",
    "demo": "draw digits in the browser",
    "sheet": "print a form to write digits in, and cut up a photo of it",
    "train_pages": "train the network that finds the digits of a page",
}
# Lightning and uvicorn end their work by the exception that Ctrl-C raises.
BY_EXCEPTION = ("train", "train_pages", "demo")
BROKEN_PIPE = 128 + 13  # a shell's status after SIGPIPE, which Windows does not have


class OutputError(Exception):
    """Standard output takes no more: whoever read it has gone, or its disk is full."""


class Output(io.TextIOWrapper):
    """Standard output; its error is no OSError, which a command could take for that of a file."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputError(explain(error)) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputError(explain(error)) from error


def main() -> None:
    guarded(_run)


def _run() -> None:
    verb, *arguments = sys.argv[1:] or ["--help"]
    if verb in VERBS:
        # Only now, because each of them imports what it alone needs. sys.argv stays as it is: the
        # processes of a distributed training are started with it.
        gc.disable()  # what an import makes is no garbage: not to search it saves a second,
        module = importlib.import_module(f"mnist_lit.{verb}")
        gc.freeze()  # and another when the process ends
        gc.enable()
        if verb in BY_EXCEPTION:
            _heed(signal.default_int_handler, signal.SIG_DFL)
        module.main(arguments)
        return
    usage = f"usage: {command()} {'|'.join(VERBS)} ..."
    if verb in ("-h", "--help"):
        lines = [f"  {name:13}{does}" for name, does in VERBS.items()]
        print(usage, "", *lines, "", f"`{command('train')} --help` and so on say more.", sep="\n")
    elif verb == "--version":
        print(f"mnist_lit {__version__}")
    else:
        print(f"{usage}\nerror: {verb!r} is none of these", file=sys.stderr)
        raise SystemExit(2)


def guarded(run: Callable[[], object], by_exception: bool = False) -> None:
    """Run a command; a reader, a disk or a hand that ends it costs a line, and no traceback.

    Args:
        run: The command; what it prints may be closed, full, or of few letters.
        by_exception: Ctrl-C raises KeyboardInterrupt, instead of ending the process at once.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # `>&-`: a file opened later would get its number
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    if sys.stdout is sys.__stdout__ and isinstance(out := sys.stdout, io.TextIOWrapper):
        how = {name: getattr(out, name) for name in ("encoding", "line_buffering", "write_through")}
        # What the terminal cannot show of a name is escaped, as Python does on standard error.
        sys.stdout = Output(out.buffer, errors="backslashreplace", **how)
    # Of broken EXIF data, and of images too large, which get an error of their own.
    warnings.filterwarnings("ignore", module="PIL")
    if not by_exception:
        _heed(_end, _end)
    try:
        try:
            run()
        finally:
            _heed(signal.SIG_IGN, signal.SIG_DFL)  # the work is done
            sys.stdout.flush()
    except KeyboardInterrupt:
        status, said = 128 + signal.SIGINT, "interrupted"
    except ModuleNotFoundError as error:
        if not (missing := missing_extra(error)):
            raise
        status, said = 1, f"error: {missing}"
    except OutputError as error:
        status, said = 1, f"error: standard output: {error}"
        if isinstance(error.__cause__, BrokenPipeError):  # `| head` has seen enough
            status, said = BROKEN_PIPE, ""
        # What is still in the buffer of stdout would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        status, said = 1, f"error: {error}"
    else:
        return
    _say(said)
    raise SystemExit(status)


def _heed(interrupt: Any, termination: Any) -> None:
    """Set what Ctrl-C and SIGTERM do, unless whoever started the process has it ignore them."""
    for number, handler in ((signal.SIGINT, interrupt), (signal.SIGTERM, termination)):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _end(number: int, _: object) -> NoReturn:
    """End the process, without what is written in part.

    At once, not by an exception: an exception waits for the threads that decode images, and a
    library that is being imported may swallow it.
    """
    discard_partial()
    with suppress(OutputError, RuntimeError):  # a second signal finds the buffer in use
        sys.stdout.flush()
    if number == signal.SIGINT:
        _say("interrupted")
    os._exit(128 + number)


def _say(line: str) -> None:
    """Write a line to standard error, in the first of the processes of a distributed training."""
    if line and os.environ.get("LOCAL_RANK", "0") == "0":
        with suppress(OSError, RuntimeError):  # it is full, or in use as the signal comes
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


if __name__ == "__main__":
    main()
