"""Images of strangers, looked at in a process that can be ended: `python -m mnist_lit.decoder`.

A thread that decodes an image cannot be stopped, and some images take minutes: a progressive JPEG
of a megabyte can hold a thousand scans of all its pixels.
"""

import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
import threading
import warnings
from typing import IO, Any

import cv2
from PIL import Image

from mnist_lit.images import UnreadableImageError, open_image
from mnist_lit.reading import Page, look

SECONDS = 5.0  # for one image
START = 60.0  # until it is ready
MAX_SCANS = 100  # of a JPEG; ten are usual in a progressive one


def decode(body: bytes) -> Page:
    """An image file's bytes -> what may be digits on it, as look() returns it.

    Raises:
        UnreadableImageError: It is no image, is damaged or too large, or shows nothing.
    """
    if body.startswith(b"\xff\xd8") and body.count(b"\xff\xda") > MAX_SCANS:
        raise UnreadableImageError(f"a JPEG of more than {MAX_SCANS} scans")
    return look(open_image(io.BytesIO(body)))


class Decoder:
    """decode() in another process, which is ended when it takes too long, and started anew."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.closed = self.ready = False
        self._start()

    def __call__(self, body: bytes) -> Page:
        """As decode(); one call at a time.

        Raises:
            UnreadableImageError: As decode() does, or after self.seconds.
        """
        if self.closed:
            raise UnreadableImageError("the server stops")
        try:
            if not self.ready:
                self._answer(START)
                self.ready = True
            self._send(body)
            answer = self._answer(self.seconds)
        except (OSError, EOFError, ValueError) as error:  # it was ended, or its pipes closed
            self._end()
            if not self.closed:
                self._start()
            reason = f"it takes more than {self.seconds:g} seconds to decode"
            raise UnreadableImageError(reason) from error
        if isinstance(answer, Exception):
            raise answer
        page: Page = answer
        return page

    def close(self) -> None:
        """Ends the process, and with it a call that waits for it."""
        self.closed = True
        self._end()

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):  # what was not sent yet
                if stream:
                    stream.close()

    def _start(self) -> None:
        self.ready = False
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mnist_lit.decoder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the server
        )

    def _send(self, body: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(struct.pack("<Q", len(body)) + body)
        self.process.stdin.flush()

    def _answer(self, seconds: float) -> Any:
        assert self.process.stdout
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        try:
            return pickle.loads(received(self.process.stdout))
        finally:
            timer.cancel()


def received(stream: IO[bytes]) -> bytes:
    """One message: its length, then itself.

    Raises:
        EOFError: The other end has gone.
    """
    length = stream.read(8)
    if len(length) < 8:
        raise EOFError
    [number] = struct.unpack("<Q", length)
    message = stream.read(number)
    if len(message) < number:
        raise EOFError
    return message


def main() -> None:
    """Answers each image on standard input with what decode() returns or raises."""
    # Of images over MAX_PIXELS, whose sender gets an error.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    cv2.setNumThreads(1)  # other images use the other cores
    answer: Any = "ready"
    while True:
        content = pickle.dumps(answer)
        try:
            sys.stdout.buffer.write(struct.pack("<Q", len(content)) + content)
            sys.stdout.buffer.flush()
            answer = decode(received(sys.stdin.buffer))
        except UnreadableImageError as error:
            answer = error
        except MemoryError:
            answer = UnreadableImageError("too large")
        except (EOFError, BrokenPipeError):  # whoever asked is gone
            os._exit(0)  # without flushing an answer that nobody takes


if __name__ == "__main__":
    main()
