"""Studies over seeds: one killed in the middle of a run goes on, and the interval is right."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_killed_study_goes_on(tmp_path: Path) -> None:
    benchmarks = tmp_path / "benchmarks"
    shutil.copytree(ROOT / "benchmarks", benchmarks, ignore=shutil.ignore_patterns("runs"))
    config = str(ROOT / "configs" / "debug.yaml")
    command = [sys.executable, str(benchmarks / "seeds.py"), "debug", "--config", config]
    command += ["--first", "7", "--seeds", "2", "--jobs", "1", "--threads", "1"]
    first, second = (benchmarks / "runs/debug" / f"seed{seed}" for seed in (7, 8))

    kill_when_there(first / "lightning_logs/version_0/config.yaml", command)
    assert not (first / "lightning_logs/version_0/checkpoints/last.ckpt").exists()
    kill_when_there(second / "lightning_logs/version_0/checkpoints/last.ckpt", command)
    assert not (benchmarks / "results/debug.json").exists()
    first_log = (first / "log.txt").read_text()

    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "test accuracy of 2 seeds: mean" in done.stdout
    assert (first / "log.txt").read_text() == first_log
    anew, resumed = json.loads((benchmarks / "results/debug.json").read_text())["runs"]
    assert (anew["seed"], resumed["seed"]) == (7, 8)
    assert anew["epochs"] == resumed["epochs"] == 2
    assert anew["seconds"] > 0  # it had no checkpoint to go on with
    assert "seconds" not in resumed
    for run in (anew, resumed):
        assert 0 < run["test_acc"] < 1
        assert run["parameters"] == 17_506


def kill_when_there(path: Path, command: list[str]) -> None:
    """Starts a command and kills it and its children as soon as it has written a file."""
    study = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while not path.exists():
        assert study.poll() is None
        time.sleep(0.05)
    os.killpg(study.pid, signal.SIGKILL)
    study.wait()


@pytest.mark.parametrize(
    ("number", "quantile"), [(2, 12.706), (10, 2.262), (11, 2.228), (31, 2.042)]
)
def test_interval_is_students(
    number: int, quantile: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from studies import mean_with_interval

    values = [99.4 + 0.1 * (-1) ** i for i in range(number)]
    mean, half = mean_with_interval(values)
    assert mean == pytest.approx(statistics.fmean(values))
    assert half == pytest.approx(quantile * statistics.stdev(values) / number**0.5, rel=1e-3)


def test_one_seed_is_refused_before_it_is_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import seeds

    monkeypatch.setattr(sys, "argv", ["seeds.py", "debug", "--seeds", "1"])
    monkeypatch.setattr(seeds, "train", None)
    with pytest.raises(SystemExit):
        seeds.main()
    assert "--seeds must be at least 2" in capsys.readouterr().err
