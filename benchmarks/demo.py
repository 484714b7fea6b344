"""The demo under load: 50 clients post photos for a minute.

    python benchmarks/demo.py [--clients 50] [--seconds 60]

First one client alone, then all at once. It ends with an error
if an answer is not a reading. The result is benchmarks/results/demo.json.
"""

import argparse
import http.client
import io
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from PIL import Image
from record import save

from mnist_lit.assets import test_digits

SIZE = 280  # of the page's canvas


def drawings() -> list[bytes]:
    images, _ = test_digits()
    files = []
    for image in images[:100, 0].numpy():
        file = io.BytesIO()
        Image.fromarray(255 - image).resize((SIZE, SIZE)).save(file, "PNG")
        files.append(file.getvalue())
    return files


def post(address: str, files: list[bytes], seconds: float) -> list[float]:
    """One client: the seconds that each of its answers took."""
    client = http.client.HTTPConnection(address, timeout=60)
    took: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        client.request("POST", "/read", files[len(took) % len(files)])
        answer = client.getresponse()
        reading = json.loads(answer.read())
        if answer.status != 200 or not reading["number"].isdigit():
            raise SystemExit(f"{answer.status}: {reading}")
        took.append(time.perf_counter() - start)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    files = drawings()
    command = [sys.executable, "-m", "mnist_lit.demo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            words = server.stdout.readline().split()
            address = next(urlsplit(word).netloc for word in words if word.startswith("http"))
            alone = post(address, files, 10)
            with ThreadPoolExecutor(args.clients) as pool:
                clients = [
                    pool.submit(post, address, files, args.seconds) for _ in range(args.clients)
                ]
                together = [seconds for client in clients for seconds in client.result()]
        finally:
            server.kill()
    result = {
        "alone_ms": 1000 * statistics.median(alone),
        "answers": len(together),
        "together_ms": 1000 * statistics.median(together),
        "slowest_ms": 1000 * max(together),
    }
    save("demo", result, **vars(args))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
