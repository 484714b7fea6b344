"""Draw digits in the browser: `python -m mnist_lit.demo`, then open the address that it prints.

The page is that of bundle.py, and reads what is drawn by itself. A photo it posts as it is to
`/read`, which prepares and classifies it as predict.py does a file. With `--collect DIR`, answers
that are corrected are posted to `/collect` and written as DIR/7/NAME.png. Starlette and uvicorn
serve it; nothing is sent anywhere else.
"""

import argparse
import asyncio
import contextlib
import errno
import logging
import os
import queue
import secrets
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from mnist_lit.errors import command, explain, missing_extra

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ModuleNotFoundError as missing:
    if __name__ == "__main__":  # where guarded() is not reached
        sys.exit(f"error: {missing_extra(missing)}")
    raise

from mnist_lit import load_pretrained
from mnist_lit.bundle import bundle
from mnist_lit.decoder import Decoder
from mnist_lit.files import last_or_best, written_whole
from mnist_lit.images import UnreadableImageError
from mnist_lit.network import Network
from mnist_lit.reading import Digit, Page, Reading
from mnist_lit.reading import read as read_pages
from mnist_lit.sureness import Judge, load_judge

MAX_BYTES = 20_000_000  # of one upload: a phone's photo has 2 to 12 MB
MAX_CORRECTION = 100_000  # bytes of a corrected digit's picture, which has about 2,000
MAX_IN_FLIGHT = 3 * MAX_BYTES  # of all uploads at once
UPLOAD_SECONDS = 20  # for one upload, from this machine
QUEUE_SECONDS = 30  # for a decoder
IDLE_SECONDS = 5  # of a connection that asks for nothing
CONNECTIONS = 200
DECODERS = 2
LABELS = tuple("0123456789")
PNG = b"\x89PNG\r\n\x1a\n"
HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",  # the page itself says the rest
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def make_app(
    network: Network, judge: Judge, decode: Callable[[bytes], Page], collect: Path | None = None
) -> Starlette:
    page = bundle(network, half=False, server=True)
    in_flight = 0  # bytes
    collected = set[str]()  # names of files that this server has written, and may delete

    def read_image(body: bytes) -> Reading:
        return next(read_pages(judge, [decode(body)]))

    async def index(_: Request) -> Response:
        return Response(page, media_type="text/html")

    async def received(request: Request, most: int, use: Callable[[bytes], Response]) -> Response:
        """What `use` makes of a body of up to `most` bytes from our own page, or an error."""
        nonlocal in_flight
        if answer := foreign(request):
            return answer
        body = bytearray()

        async def receive() -> Response | None:
            nonlocal in_flight
            async for chunk in request.stream():
                in_flight += len(chunk)
                body.extend(chunk)
                if len(body) > most:
                    return error(f"more than {most / 1_000_000:g} MB", 413)
                if in_flight > MAX_IN_FLIGHT:
                    return error("too many uploads at once: try again", 503)
            return None

        try:
            if refused := await asyncio.wait_for(receive(), UPLOAD_SECONDS):
                return refused
            return await run_in_threadpool(use, bytes(body))
        except asyncio.TimeoutError:
            return error(f"the upload took more than {UPLOAD_SECONDS} seconds", 408)
        except queue.Empty:
            return error("too many images at once: try again", 503)
        except ClientDisconnect:
            return error("gone before the image was here", 400)
        except UnreadableImageError as unreadable:
            return error(str(unreadable), 422)
        finally:
            in_flight -= len(body)

    async def read(request: Request) -> Response:
        return await received(request, MAX_BYTES, lambda body: as_json(read_image(body)))

    async def collect_(request: Request) -> Response:
        """GET tells the folder, POST ?label=7 writes a PNG into it, DELETE ?name= takes it back."""
        if request.method in ("GET", "HEAD"):
            return JSONResponse({"folder": str(collect) if collect else None})
        if collect is None:
            return error("corrections are written only with --collect DIR", 404)
        if request.method == "DELETE":
            return forget(request, collect)
        label = request.query_params.get("label", "")
        if label not in LABELS:
            return error("label must be a digit", 400)
        return await received(request, MAX_CORRECTION, lambda body: keep(body, collect, label))

    def keep(body: bytes, folder: Path, label: str) -> Response:
        if not body.startswith(PNG):
            return error("not a PNG image", 422)
        read_image(body)  # what training would refuse is refused here
        name = f"{label}/{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}.png"
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as partial:
                partial.write_bytes(body)
        except OSError as failed:
            return error(explain(failed), 507)
        collected.add(name)
        return JSONResponse({"name": name})

    def forget(request: Request, folder: Path) -> Response:
        name = request.query_params.get("name", "")
        if refused := foreign(request):
            return refused
        if name not in collected:
            return error("not a file of this server's", 404)
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as failed:
            return error(explain(failed), 507)
        collected.discard(name)
        return JSONResponse({"name": name})

    return Starlette(
        routes=[
            Route("/", index),
            Route("/read", read, methods=["POST"]),
            Route("/collect", collect_, methods=["GET", "POST", "DELETE"]),
        ],
        # Another site's page that names its own host 127.0.0.1 is turned away.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    )


def foreign(request: Request) -> Response | None:
    """A refusal of what the page of another origin asks."""
    if request.headers.get("Origin") in (None, f"http://{request.headers['Host']}"):
        return None
    return error("only the page of this server may ask", 403)


def error(message: str, status: int) -> Response:
    return JSONResponse({"error": message}, status_code=status)


def as_json(reading: Reading) -> Response:
    """The number, and each digit as the page wants it."""

    def told(digit: Digit) -> dict[str, Any]:
        return {
            "digit": digit.digit,
            "probabilities": [round(value, 6) for value in digit.probabilities],
            "sureness": round(digit.sureness, 6),
            "uncertain": digit.uncertain,
            "box": digit.box,
            "pixels": (digit.pixels * 255).round().astype(int).ravel().tolist(),
        }

    lines = [[told(digit) for digit in row] for row in reading.rows]
    return JSONResponse({"number": reading.number, "uncertain": reading.uncertain, "lines": lines})


class Impatient(H11Protocol):
    """uvicorn's protocol, closing connections that ask for nothing, which it lets stay."""

    def connection_made(self, transport: Any) -> None:
        connections: set[Any] = self.connections
        idle = [c for c in connections if not (c.cycle or c.transport.is_closing())]
        if len(connections) >= CONNECTIONS // 2 and idle:
            min(idle, key=lambda c: c.opened).transport.close()
        super().connection_made(transport)
        self.opened = self.loop.time()
        self.seen: object = self  # the request of the last look
        self.watch()

    def watch(self) -> None:
        """Closes it if nothing was asked since the last look."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if self.cycle is self.seen:
            self.transport.close()
            return
        self.seen = self if busy else self.cycle
        self.loop.call_later(IDLE_SECONDS, self.watch)


def serve(
    network: Network, judge: Judge, listener: socket.socket, collect: Path | None = None
) -> None:
    """Until Ctrl-C."""
    pool = queue.SimpleQueue[Decoder]()
    decoders = [Decoder() for _ in range(DECODERS)]
    for decoder in decoders:
        pool.put(decoder)

    def decode(body: bytes) -> Page:
        decoder = pool.get(timeout=QUEUE_SECONDS)
        try:
            return decoder(body)
        finally:
            pool.put(decoder)

    config = uvicorn.Config(
        make_app(network, judge, decode, collect),
        http=Impatient,
        headers=list(HEADERS.items()),  # of every answer
        server_header=False,
        log_level="warning",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    # What it says of requests that it ends on Ctrl-C is no news.
    logging.getLogger("uvicorn.error").addFilter(lambda _: not server.should_exit)
    try:
        server.run(sockets=[listener])
    finally:
        for decoder in decoders:
            decoder.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=command("demo"),
        usage="%(prog)s [--port N] [--collect DIR] [--ckpt PATH]",
        description="Draw digits in the browser.",
    )
    parser.add_argument("--port", type=int, default=8000, help="port on 127.0.0.1 (8000); 0: any")
    parser.add_argument(
        "--ckpt",
        "--ckpt_path",
        type=last_or_best,
        metavar="PATH",
        help="training checkpoint instead of the shipped weights",
    )
    parser.add_argument(
        "--collect",
        type=Path,
        metavar="DIR",
        help="write corrected digits to DIR/0 ... DIR/9, for --data.own_dir",
    )
    args = parser.parse_args(arguments)
    try:
        if args.collect:
            args.collect.mkdir(parents=True, exist_ok=True)
            if not os.access(args.collect, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as failed:
        parser.error(f"--collect {args.collect}: {explain(failed)}")
    try:
        network, judge = load_pretrained(args.ckpt), load_judge(args.ckpt)
    except (OSError, ValueError) as failed:
        parser.error(f"--ckpt {args.ckpt}: {explain(failed)}")
    if not 0 <= args.port <= 65535:
        parser.error(f"--port {args.port}: port must be 0-65535")
    try:
        # A browser that comes before uvicorn is ready waits.
        listener = socket.create_server(("127.0.0.1", args.port), backlog=128)
    except OSError as failed:
        parser.error(f"--port {args.port}: {explain(failed)}")
    torch.set_num_threads(1)  # a digit takes milliseconds; other clients use the other cores
    port = listener.getsockname()[1]
    # KeyboardInterrupt, which uvicorn, too, raises when it stops.
    with listener, contextlib.suppress(KeyboardInterrupt):
        print(f"draw digits at http://127.0.0.1:{port}/ (Ctrl-C stops)", flush=True)
        serve(network, judge, listener, args.collect)


if __name__ == "__main__":
    from mnist_lit.__main__ import guarded

    guarded(main, by_exception=True)
