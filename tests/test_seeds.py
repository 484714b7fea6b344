"""A study over seeds that is killed in the middle of a run goes on with what it has."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_killed_study_goes_on(tmp_path: Path) -> None:
    benchmarks = tmp_path / "benchmarks"
    shutil.copytree(ROOT / "benchmarks", benchmarks, ignore=shutil.ignore_patterns("runs"))
    config = str(ROOT / "configs" / "debug.yaml")
    command = [sys.executable, str(benchmarks / "seeds.py"), "debug", "--config", config]
    command += ["--first", "7", "--seeds", "2", "--jobs", "1", "--threads", "2"]
    second = benchmarks / "runs/debug/seed8/lightning_logs/version_0/checkpoints/last.ckpt"

    study = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while not second.exists():
        assert study.poll() is None
        time.sleep(0.05)
    os.killpg(study.pid, signal.SIGKILL)
    study.wait()
    first_log = (benchmarks / "runs/debug/seed7/log.txt").read_text()
    assert not (benchmarks / "results/debug.json").exists()

    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "test accuracy of 2 seeds: mean" in done.stdout
    assert (benchmarks / "runs/debug/seed7/log.txt").read_text() == first_log
    finished, resumed = json.loads((benchmarks / "results/debug.json").read_text())["runs"]
    assert (finished["seed"], resumed["seed"]) == (7, 8)
    assert finished["epochs"] == resumed["epochs"] == 2
    assert finished["seconds"] > 0
    assert "seconds" not in resumed
    for run in (finished, resumed):
        assert 0 < run["test_acc"] < 1
        assert run["parameters"] == 17_506
