"""Seconds to 99.4 %: the plain script and `fast`, in turn, then the default, on the same cores.

    python benchmarks/time_to_accuracy.py [--default]

`fast` runs twice before and twice after the plain script, so that a machine which slows down
meanwhile shows, and the default three times at the end; --default runs it alone. The plain script
counts from its first training step to the end of its first epoch with at least 99.4 % of the test
digits, which it looks at after every epoch. The others count as whole processes, from their start
to the end of their only look at the test set, on seeds that seeds.py has tested. 40 minutes on two
idle cores. The results are benchmarks/results/time_to_accuracy.json and default_time.json.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from record import save
from studies import load

HERE = Path(__file__).parent


def run(recipe: str, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        printed = subprocess.run(
            [
                *(sys.executable, "-m", "mnist_lit", "train"),
                *(("--config", recipe) if recipe != "default" else ()),
                *("--seed_everything", str(seed), "--trainer.default_root_dir", folder),
                *("--data.data_dir", str(HERE / "runs" / "data")),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        whole = time.perf_counter() - start
    epochs = [float(s) for s in re.findall(r"^epoch .* ([\d.]+) s$", printed, re.MULTILINE)]
    [test] = re.findall(r"^test +([\d.]+) %", printed, re.MULTILINE)
    result = {
        "seconds": whole,
        "epoch_seconds": sum(epochs) / len(epochs),
        "epochs": len(epochs),
        "test_acc": float(test) / 100,
    }
    print(f"{recipe}, seed {seed}: {json.dumps(result)}", flush=True)
    return result


def run_plain() -> dict[str, Any]:
    command = [sys.executable, str(HERE / "plain.py")]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for text in process.stdout:
            lines.append(json.loads(text))
            print(f"plain script: {text.strip()}", flush=True)
    if process.returncode:
        raise SystemExit(f"{command} failed")
    last = lines[-1]
    return {
        "seconds": last["seconds"],
        "epoch_seconds": last["seconds"] / last["epoch"],
        "epochs": last["epoch"],
        "reached": last["test_acc"] >= 0.994,
        "workers": last["workers"],
        "curve": [{key: line[key] for key in ("seconds", "test_acc")} for line in lines],
    }


def race() -> None:
    seeds = [tested["seed"] for tested in load("fast")["runs"][:4]]
    fast = [run("fast", seed) for seed in seeds[:2]]
    plain = run_plain()
    fast += [run("fast", seed) for seed in seeds[2:]]
    seconds = sum(run["seconds"] for run in fast) / len(fast)
    ratio = plain["seconds"] / seconds
    reached = "99.4 %" if plain["reached"] else "the end, 99.4 % not reached"
    print(
        f"plain script {plain['seconds']:.0f} s to {reached}; fast {seconds:.0f} s;"
        f" {ratio:.1f}x faster to 99.4 %"
    )
    save("time_to_accuracy", {"plain": plain, "fast": fast, "ratio": ratio})


def time_default() -> None:
    """On the three tested seeds around the median number of epochs."""
    by_epochs = sorted(load("default")["runs"], key=lambda tested: tested["epochs"])
    middle = len(by_epochs) // 2
    seeds = [tested["seed"] for tested in by_epochs[middle - 1 : middle + 2]]
    save("default_time", {"runs": [run("default", seed) for seed in seeds]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--default", action="store_true", help="time the default alone")
    if not parser.parse_args().default:
        race()
    time_default()


if __name__ == "__main__":
    main()
