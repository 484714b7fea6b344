"""What reading costs: file sizes, latency and throughput of PyTorch and ONNX Runtime on one core.

    python benchmarks/inference.py

The runtimes take turns, round after round, on one thread each; medians are printed and kept in
benchmarks/results/inference.json.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from record import save

from mnist_lit import load_pretrained
from mnist_lit.assets import FILES, test_digits
from mnist_lit.export import export


def main() -> None:
    torch.set_num_threads(1)
    network = load_pretrained()
    images = test_digits()[0] / 255
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digitnet.onnx"
        difference = export(network, "onnx", path)
        sizes = {
            "digitnet.pt": len((FILES / "digitnet.pt").read_bytes()),
            "digitnet.onnx": path.stat().st_size,
        }
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    result: dict[str, object] = {"bytes": sizes, "largest_difference": difference}
    for batch, rounds in ((1, 300), (1000, 15)):
        few = images[:batch]
        programs: dict[str, Callable[[], object]] = {
            "pytorch": lambda few=few: network(few),  # type: ignore[misc]
            "onnxruntime": lambda few=few: session.run(None, {"images": few.numpy()}),  # type: ignore[misc]
        }
        seconds: dict[str, list[float]] = {name: [] for name in programs}
        with torch.inference_mode():
            for _ in range(rounds):
                for name, program in programs.items():
                    start = time.perf_counter()
                    program()
                    seconds[name].append(time.perf_counter() - start)
        for name, all_seconds in seconds.items():
            median = statistics.median(all_seconds)
            result[f"{name}_{batch}"] = median
            print(
                f"{name:12} {batch:5} images {1000 * median:8.2f} ms {batch / median:8.0f} a second"
            )
    print(sizes, f"largest difference of a logit {difference:.1g}")
    save("inference", result, onnxruntime=onnxruntime.__version__, threads=1)


if __name__ == "__main__":
    main()
