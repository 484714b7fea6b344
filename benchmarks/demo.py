"""The demo's server under load: fifty clients that draw for a minute.

    python benchmarks/demo.py [--clients 50] [--seconds 60]

Prints how many strokes were answered, errors, latencies, and the server's memory before and after.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from PIL import Image, ImageOps

from mnist_lit.assets import test_digits


def drawing() -> bytes:
    digit = Image.fromarray(test_digits()[0][0, 0].numpy())
    file = io.BytesIO()
    ImageOps.invert(digit.resize((340, 340), Image.Resampling.BICUBIC)).save(file, "PNG")
    return file.getvalue()


def memory(pid: int) -> float:
    """Resident megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    content = drawing()
    command = [sys.executable, "-m", "mnist_lit.demo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        url = server.stdout.readline().split()[4] + "read"

        def stroke() -> float:
            start = time.perf_counter()
            with urllib.request.urlopen(url, content, timeout=60) as answer:
                answer.read()  # anything but 200 raises
            return time.perf_counter() - start

        alone = [stroke() for _ in range(50)]
        before, end = memory(server.pid), time.perf_counter() + args.seconds

        def client(_: int) -> list[float]:
            seconds = []
            while time.perf_counter() < end:
                seconds.append(stroke())
            return seconds

        with ThreadPoolExecutor(args.clients) as pool:
            seconds = sorted(chain.from_iterable(pool.map(client, range(args.clients))))
        print(
            f"one client: median {1000 * statistics.median(alone):.0f} ms a stroke\n"
            f"{args.clients} clients: {len(seconds):,} strokes in {args.seconds:.0f} s without an"
            f" error, median {1000 * statistics.median(seconds):.0f} ms,"
            f" 99th percentile {1000 * seconds[int(0.99 * len(seconds))]:.0f} ms\n"
            f"memory {before:.0f} MB before, {memory(server.pid):.0f} MB after"
        )
        server.terminate()


if __name__ == "__main__":
    main()
