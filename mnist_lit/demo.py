"""Draw a digit in the browser: `python -m mnist_lit.demo`, then open the address that it prints.

The page posts each drawing as a PNG, a photo as it is, to `/read`, which prepares and reads it just
as predict.py reads a file; of several digits it shows the number, and how sure the least sure one
is. Starlette and uvicorn serve it: the page is one file without a script or font from elsewhere,
and sends nothing anywhere else.
"""

import argparse
import contextlib
import io
import random
import socket
import threading
import warnings

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

from mnist_lit import load_pretrained
from mnist_lit.assets import FILES, test_digits
from mnist_lit.images import UnreadableImageError, open_image
from mnist_lit.network import Network
from mnist_lit.predict import explain
from mnist_lit.reading import Reading, look
from mnist_lit.reading import read as read_pages
from mnist_lit.weights import load_network

MAX_BYTES = 20_000_000  # of one upload: a phone's photo has 2 to 12 MB
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'unsafe-inline';"
    " style-src 'unsafe-inline'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def make_app(network: Network) -> Starlette:
    page = (FILES / "demo.html").read_text("utf-8")
    page = page.replace("PARAMETERS", f"{network.parameter_count:,}")
    digits, _ = test_digits()
    decoding = threading.Semaphore(2)  # a large photo takes 200 MB while it is decoded

    def read_image(body: bytes) -> Reading:
        with decoding:
            page = look(open_image(io.BytesIO(body)))
        return next(read_pages(network, [page]))

    async def index(_: Request) -> Response:
        return Response(page, media_type="text/html", headers=HEADERS)

    async def read(request: Request) -> Response:
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BYTES:
                    return error(f"more than {MAX_BYTES // 1_000_000} MB", 413)
            reading = await run_in_threadpool(read_image, bytes(body))
        except ClientDisconnect:
            return error("gone before the image was here", 400)
        except UnreadableImageError as unreadable:
            return error(str(unreadable), 422)
        least = reading.least
        return JSONResponse(
            {
                "digit": least.digit,
                "number": reading.number,
                "uncertain": reading.uncertain,
                "probabilities": [round(value, 6) for value in least.probabilities],
                "input": (least.pixels * 255).round().astype(int).ravel().tolist(),
            },
            headers=HEADERS,
        )

    async def sample(_: Request) -> Response:
        """One of MNIST's 10,000 test digits, black on white."""
        png = io.BytesIO()
        Image.fromarray(255 - random.choice(digits)[0].numpy()).save(png, "PNG")
        return Response(png.getvalue(), media_type="image/png", headers=HEADERS)

    def error(message: str, status: int) -> Response:
        return JSONResponse({"error": message}, status_code=status, headers=HEADERS)

    return Starlette(
        routes=[
            Route("/", index),
            Route("/read", read, methods=["POST"]),
            Route("/sample.png", sample),
        ],
        # Another site's page that names its own host 127.0.0.1 is turned away.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m mnist_lit.demo",
        usage="python -m mnist_lit.demo [--port N] [--ckpt PATH]",
        description="Draw a digit in the browser.",
    )
    parser.add_argument("--port", type=int, default=8000, help="port on 127.0.0.1 (8000); 0: any")
    parser.add_argument(
        "--ckpt", metavar="PATH", help="training checkpoint instead of the shipped weights"
    )
    args = parser.parse_args()
    try:
        network = load_network(args.ckpt) if args.ckpt else load_pretrained()
    except (OSError, ValueError) as error:
        parser.error(f"--ckpt {args.ckpt}: {explain(error)}")
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", args.port))
        listener.listen(128)  # a browser that comes before uvicorn is ready waits
    except (OSError, OverflowError) as error:
        parser.error(f"--port {args.port}: {explain(error)}")
    # Of images over MAX_PIXELS, whose sender gets an error.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    torch.set_num_threads(1)  # a digit takes milliseconds; other clients use the other cores
    print(
        f"draw a digit at http://127.0.0.1:{listener.getsockname()[1]}/ (Ctrl-C stops)", flush=True
    )
    config = uvicorn.Config(make_app(network), log_level="warning", limit_concurrency=200)
    with contextlib.suppress(KeyboardInterrupt):  # which it raises again when it has stopped
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
