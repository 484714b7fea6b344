"""What another busy program costs: fast.yaml's steps with all cores, and with the idle ones.

    python benchmarks/busy.py [--rounds 3]

An epoch of 250 steps is timed, in turn, with as many threads as there are cores and with the number
that the command chooses by itself (mnist_lit/device.py), on the idle machine and beside a process
that keeps one core busy. The result is benchmarks/results/busy.json.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from record import save

HERE = Path(__file__).parent
STEPS = 250


def epoch_seconds(busy: bool, threads: int | None) -> float:
    """Of the steps and their validation, as the command prints them."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        if busy:
            endless = [sys.executable, "-c", "while True: pass"]
            other = stack.enter_context(subprocess.Popen(endless))
            stack.callback(other.kill)  # before it is waited for
        printed = subprocess.run(
            [
                *(sys.executable, "-m", "mnist_lit.train", "--config", "fast"),
                *("--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"),
                *("--trainer.limit_train_batches", str(STEPS)),
                *("--trainer.default_root_dir", folder),
                *("--data.data_dir", str(HERE / "runs" / "data")),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=environment,
        ).stdout
    [seconds] = re.findall(r"^epoch .* ([\d.]+) s$", printed, re.MULTILINE)
    return float(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    cores = os.cpu_count() or 1
    layouts = {
        "no: one on each core": (False, cores),
        "no: as the command chooses": (False, None),
        "yes: one on each core": (True, cores),
        "yes: as the command chooses": (True, None),
    }
    seconds: dict[str, list[float]] = {name: [] for name in layouts}
    for _ in range(args.rounds):
        for name, layout in layouts.items():
            seconds[name].append(epoch_seconds(*layout))
            print(f"{name:28}{seconds[name][-1]:6.1f} s", flush=True)
    first = statistics.median(seconds["no: one on each core"])
    ratios = {name: statistics.median(values) / first for name, values in seconds.items()}
    for name, ratio in ratios.items():
        print(f"{name:28}{ratio:6.2f} times the seconds of the first")
    save("busy", {"seconds": seconds, "ratios": ratios, "steps": STEPS}, **vars(args))


if __name__ == "__main__":
    main()
