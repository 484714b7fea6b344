"""Draw a digit in the browser: `python -m mnist_lit.demo`, then open the address that it prints.

The page posts each drawing as a PNG, a photo as it is, to `/read`, which prepares and classifies it
as predict.py does a file; of several digits it shows the number, and how sure the least sure one
is. Starlette and uvicorn serve it: the page is one file without a script or font from elsewhere,
and sends nothing anywhere else.
"""

import argparse
import asyncio
import contextlib
import io
import logging
import queue
import random
import socket
from collections.abc import Callable, Sequence
from typing import Any

import torch
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from mnist_lit import load_pretrained
from mnist_lit.assets import FILES, test_digits
from mnist_lit.decoder import Decoder
from mnist_lit.errors import explain
from mnist_lit.images import UnreadableImageError
from mnist_lit.network import Network
from mnist_lit.reading import Page, Reading
from mnist_lit.reading import read as read_pages
from mnist_lit.sureness import Judge, load_judge

MAX_BYTES = 20_000_000  # of one upload: a phone's photo has 2 to 12 MB
MAX_IN_FLIGHT = 3 * MAX_BYTES  # of all uploads at once
UPLOAD_SECONDS = 20  # for one upload, from this machine
QUEUE_SECONDS = 30  # for a decoder
IDLE_SECONDS = 5  # of a connection that asks for nothing
CONNECTIONS = 200
DECODERS = 2
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'unsafe-inline';"
    " style-src 'unsafe-inline'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def make_app(network: Network, judge: Judge, decode: Callable[[bytes], Page]) -> Starlette:
    page = (FILES / "demo.html").read_text("utf-8")
    page = page.replace("PARAMETERS", f"{network.parameter_count:,}")
    digits, _ = test_digits()
    in_flight = 0  # bytes

    def read_image(body: bytes) -> Reading:
        return next(read_pages(judge, [decode(body)]))

    async def index(_: Request) -> Response:
        return Response(page, media_type="text/html")

    async def read(request: Request) -> Response:
        nonlocal in_flight
        origin = request.headers.get("Origin")
        if origin not in (None, f"http://{request.headers['Host']}"):
            return error("only the page of this server may ask", 403)
        body = bytearray()

        async def receive() -> Response | None:
            nonlocal in_flight
            async for chunk in request.stream():
                in_flight += len(chunk)
                body.extend(chunk)
                if len(body) > MAX_BYTES:
                    return error(f"more than {MAX_BYTES // 1_000_000} MB", 413)
                if in_flight > MAX_IN_FLIGHT:
                    return error("too many uploads at once: try again", 503)
            return None

        try:
            refused = await asyncio.wait_for(receive(), UPLOAD_SECONDS)
            if refused:
                return refused
            reading = await run_in_threadpool(read_image, bytes(body))
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
        least = reading.least
        return JSONResponse(
            {
                "digit": least.digit,
                "number": reading.number,
                "uncertain": reading.uncertain,
                "probabilities": [round(value, 6) for value in least.probabilities],
                "input": (least.pixels * 255).round().astype(int).ravel().tolist(),
            }
        )

    async def sample(_: Request) -> Response:
        """One of MNIST's 10,000 test digits, black on white."""
        png = io.BytesIO()
        Image.fromarray(255 - random.choice(digits)[0].numpy()).save(png, "PNG")
        return Response(png.getvalue(), media_type="image/png")

    def error(message: str, status: int) -> Response:
        return JSONResponse({"error": message}, status_code=status)

    return Starlette(
        routes=[
            Route("/", index),
            Route("/read", read, methods=["POST"]),
            Route("/sample.png", sample),
        ],
        # Another site's page that names its own host 127.0.0.1 is turned away.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    )


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


def serve(network: Network, judge: Judge, listener: socket.socket) -> None:
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
        make_app(network, judge, decode),
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
        with contextlib.suppress(KeyboardInterrupt):  # which it raises again when it has stopped
            server.run(sockets=[listener])
    finally:
        for decoder in decoders:
            decoder.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m mnist_lit.demo",
        usage="python -m mnist_lit.demo [--port N] [--ckpt PATH]",
        description="Draw a digit in the browser.",
    )
    parser.add_argument("--port", type=int, default=8000, help="port on 127.0.0.1 (8000); 0: any")
    parser.add_argument(
        "--ckpt",
        "--ckpt_path",
        metavar="PATH",
        help="training checkpoint instead of the shipped weights",
    )
    args = parser.parse_args(arguments)
    try:
        network, judge = load_pretrained(args.ckpt), load_judge(args.ckpt)
    except (OSError, ValueError) as error:
        parser.error(f"--ckpt {args.ckpt}: {explain(error)}")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", args.port))
            listener.listen(128)  # a browser that comes before uvicorn is ready waits
        except (OSError, OverflowError) as error:
            parser.error(f"--port {args.port}: {explain(error)}")
        torch.set_num_threads(1)  # a digit takes milliseconds; other clients use the other cores
        port = listener.getsockname()[1]
        print(f"draw a digit at http://127.0.0.1:{port}/ (Ctrl-C stops)", flush=True)
        serve(network, judge, listener)


if __name__ == "__main__":
    main()
