"""Runs of the command line in forks of one process, which has imported torch already.

Started as a script it reads a JSON line for each run and answers with its exit status and seconds:
{"arguments": [...], "cwd": "..."}, the files "out" and "err" for what it prints, and a fault, which
is "kill_after" so many seconds, "kill_in" the nth call of a function of `os`, "full_in" that call
for want of space, or no file "larger" than so many bytes. `Forks` is the other end.
"""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any


class Forks:
    """`with Forks() as forks: forks.run(folder, "--trainer.max_epochs", 1)`."""

    def __enter__(self) -> "Forks":
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.process.communicate()

    def run(self, cwd: Path, *arguments: object, **fault: Any) -> tuple[int, float]:
        """The exit status (minus the signal, if killed) and the seconds; output is in cwd/out."""
        request = {"cwd": str(cwd), "arguments": [str(a) for a in arguments], **fault}
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(request), file=self.process.stdin, flush=True)
        status, seconds = json.loads(self.process.stdout.readline())
        return status, seconds

    def command(self, cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        """As if `python -m mnist_lit.train` had been run with these arguments in this folder."""
        with tempfile.TemporaryDirectory() as printed:
            out, err = Path(printed, "out"), Path(printed, "err")
            status, _ = self.run(cwd, *arguments, out=str(out), err=str(err))
            return subprocess.CompletedProcess(
                [*map(str, arguments)], status, out.read_text("utf-8"), err.read_text("utf-8")
            )


def break_in(name: str, nth: int, *, kill: bool) -> None:
    """The nth call of os.`name` kills the process after its work, or finds the disk full."""
    original, calls = getattr(os, name), 0

    def deadly(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and not kill:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        result = original(*arguments)
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(os, name, deadly)


def child(request: dict[str, Any]) -> int:
    import torch

    from mnist_lit.__main__ import guarded
    from mnist_lit.train import main

    os.chdir(request["cwd"])
    out = request.get("out", "out")
    for stream, name in ((1, out), (2, request.get("err", out))):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    torch.set_num_threads(1)
    for fault in request.keys() & {"kill_in", "full_in"}:
        name, nth = request[fault]
        break_in(name, nth, kill=fault == "kill_in")
    if "larger" in request:
        import resource  # here, because Windows has none

        resource.setrlimit(resource.RLIMIT_FSIZE, (request["larger"],) * 2)
    sys.argv = ["train", *request["arguments"]]
    try:
        guarded(main, by_exception=True)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    except BaseException:
        traceback.print_exc()
        return 70
    finally:
        sys.stdout.flush()
    return 0


def serve() -> None:
    import mnist_lit.train  # noqa: F401 - once, for all forks

    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            sys.stdin = open(os.devnull)  # noqa: SIM115
            os._exit(child(request))
        if "kill_after" in request:
            time.sleep(request["kill_after"])
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps([status, time.perf_counter() - started]), flush=True)


if __name__ == "__main__":
    serve()
