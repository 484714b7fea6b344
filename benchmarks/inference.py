"""What each exported file is: its size, test accuracy and latency on one core.

    python benchmarks/inference.py

Every file is made and checked on the 10,000 test digits as `mnist-lit export` does it. The programs
then take turns at one digit, round after round, on one thread each: PyTorch, ONNX Runtime, OpenCV
and, for the page, V8. Of each the fastest round is kept, because what else a machine does only adds
to it, in benchmarks/results/inference.json.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import onnxruntime
import torch
from py_mini_racer import MiniRacer
from record import save
from torch import Tensor

from mnist_lit import load_pretrained
from mnist_lit.assets import test_digits
from mnist_lit.bundle import scripts_of
from mnist_lit.export import export

FILES = (  # format, precision, what runs it
    ("pt", "single", "PyTorch"),
    ("onnx", "single", "ONNX Runtime"),
    ("onnx", "single", "OpenCV"),
    ("onnx", "half", "ONNX Runtime"),
    ("onnx", "int8", "ONNX Runtime"),
    ("html", "half", "V8"),
    ("html", "single", "V8"),
)
ROUNDS = 200
Program = Callable[[Tensor], object]


def program(runtime: str, path: Path) -> Program:
    """What classifies images by a file, on one thread."""
    if runtime == "PyTorch":
        return load_pretrained(path)
    if runtime == "OpenCV":
        net = cv2.dnn.readNetFromONNX(str(path))

        def run(images: Tensor) -> object:
            net.setInput(images.numpy())
            return net.forward()

        return run
    if runtime == "ONNX Runtime":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"images": images.numpy()})
    racer, scripts = MiniRacer(), scripts_of(path.read_text("utf-8"))
    racer.eval(scripts["data"] + scripts["network.js"])
    racer.eval("const reader = new DigitReader(MODEL)")
    levels = json.dumps(test_digits()[0][0].flatten().tolist())
    racer.eval(f"const digit = Float32Array.from(JSON.parse('{levels}'), level => level / 255)")

    def read(_: Tensor) -> object:
        return racer.eval("reader.logits(digit, 1)[0]")

    return read


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network = load_pretrained()
    rows: list[dict[str, Any]] = []
    programs: list[Program] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, precision, runtime in FILES:
            path = Path(folder) / f"{precision}.{kind}"
            row: dict[str, Any] = {"format": kind, "precision": precision, "runtime": runtime}
            if path.exists():  # of another runtime
                row = next(made for made in rows if made["format"] == kind) | row
            else:
                row |= export(network, kind, path, precision)._asdict()
                row["bytes"] = path.stat().st_size
            rows.append(row)
            programs.append(program(runtime, path))
            print(row, flush=True)
    digit = test_digits()[0][:1] / 255
    seconds: list[list[float]] = [[] for _ in programs]
    with torch.inference_mode():
        for run in programs:
            run(digit)
        for _ in range(ROUNDS):
            for run, taken in zip(programs, seconds, strict=True):
                start = time.perf_counter()
                run(digit)
                taken.append(time.perf_counter() - start)
    for row, taken in zip(rows, seconds, strict=True):
        row["seconds"] = min(taken)
        name = f"{row['format']}, {row['precision']}, {row['runtime']}"
        print(f"{name:28}{1000 * row['seconds']:9.2f} ms")
    save("inference", {"files": rows}, onnxruntime=onnxruntime.__version__, threads=1)


if __name__ == "__main__":
    main()
