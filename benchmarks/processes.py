"""How much sooner two processes end an epoch than one: configs/ddp.yaml on two CPU cores.

    python benchmarks/processes.py [--rounds 3]

The same 64 digits make each step: of one process with one thread, of one with two, and of two with
one thread each. The runs take turns, so that a machine which slows down meanwhile slows all.
The result is benchmarks/results/processes.json.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from record import save

HERE = Path(__file__).parent
LAYOUTS = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes": (2, 1)}


def epoch_seconds(processes: int, threads: int) -> float:
    """Of an epoch of training and validation, as the command prints them."""
    with tempfile.TemporaryDirectory() as folder:
        printed = subprocess.run(
            [
                *(sys.executable, "-m", "mnist_lit.train"),
                *("--config", str(HERE.parent / "configs" / "ddp.yaml")),
                *("--trainer.accelerator", "cpu", "--trainer.devices", str(processes)),
                *("--data.batch_size", str(64 // processes), "--trainer.max_epochs", "1"),
                *("--trainer.default_root_dir", folder),
                *("--data.data_dir", str(HERE / "runs" / "data")),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        ).stdout
    [seconds] = re.findall(r"^epoch .* ([\d.]+) s$", printed, re.MULTILINE)
    return float(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in LAYOUTS}
    for _ in range(args.rounds):
        for name, layout in LAYOUTS.items():
            seconds[name].append(epoch_seconds(*layout))
            print(f"{name:22}{seconds[name][-1]:6.1f} s an epoch", flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    speedups = {name: medians["1 process, 1 thread"] / value for name, value in medians.items()}
    for name, value in speedups.items():
        print(f"{name:22}{value:6.2f} times as fast as one process with one thread")
    save("processes", {"epoch_seconds": seconds, "speedups": speedups}, **vars(args))


if __name__ == "__main__":
    main()
