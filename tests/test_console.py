"""What a run prints."""

import contextlib
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mnist_lit.console import Summary, wilson_interval
from mnist_lit.train import main


@pytest.mark.parametrize(
    ("accuracy", "number", "low", "high"),
    [(0.5, 10, 0.2366, 0.7634), (0.994, 10_000, 0.99229, 0.99534), (1.0, 10, 0.7225, 1.0)],
)
def test_wilson_interval(accuracy: float, number: int, low: float, high: float) -> None:
    assert wilson_interval(accuracy, number) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("number", [5, 320, 10_000])
def test_an_interval_has_no_sign(number: int) -> None:
    low, _ = wilson_interval(0.0, number)
    _, high = wilson_interval(1.0, number)
    assert (f"{low:.2f}", f"{high:.2f}") == ("0.00", "1.00")
    assert low >= 0
    assert high <= 1


@pytest.mark.parametrize(
    ("target", "reached", "best", "expected"),
    [
        (0.994, 16, 0.9951, ["target      99.40 % reached in epoch 16", "99.51 % of 10,000"]),
        (0.994, None, 0.9, ["target      99.40 % not reached in 20 epochs", "90.00 % of 10,000"]),
        (None, None, None, ["target      none set", "none: the last weights were tested"]),
        (0.994, None, None, ["target      99.40 % of a validation, of which there was none"]),
    ],
)
def test_a_summary_says_what_the_fit_came_to(
    target: float | None, reached: int | None, best: float | None, expected: list[str]
) -> None:
    digits = SimpleNamespace(test_set=range(10_000), batch_size=64)
    trainer: Any = SimpleNamespace(datamodule=digits, num_test_batches=[157], world_size=1)
    text = Summary(
        device="cpu with 1 thread, 32-true",
        parameters=17_506,
        target=target,
        reached_epoch=reached,
        epochs=20,
        best_val_acc=best,
        validated=10_000 if best else 0,
        looks="measured once",
        seconds=60.4,
        checkpoint="best.ckpt",
        curves=None,
    ).text(trainer, {"test/acc": 0.9946})
    for part in expected:
        assert part in text
    assert "test        99.46 % of 10,000, measured once; 95 % interval 99.30 to 99.59 %" in text
    assert "parameters  17,506\n" in text
    assert "time        60 s\n" in text
    assert text.endswith("checkpoint  best.ckpt")  # no curves without TensorBoard


def test_a_bar_of_the_users_own_takes_the_place_of_ours_on_a_terminal(
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    limits = [f"--trainer.limit_{part}_batches=2" for part in ("train", "val", "test")]
    flags = ["--data.data_dir", str(data_dir), *limits, "--trainer.max_epochs=1"]
    for bar in ([], ["--trainer.callbacks+=lightning.pytorch.callbacks.TQDMProgressBar"]):
        main([*flags, *bar])
        written = capsys.readouterr().out
        assert written.startswith("DigitNet, ")
        assert "epoch  1/1 " in written
        assert ("whole fit=" in written) == (not bar)  # what ours alone shows


def screen(written: str) -> list[str]:
    """The lines of a terminal after this; of its control codes, tqdm uses one: a line up."""
    lines, row, column = [""], 0, 0
    for code in re.split(r"(\x1b\[A|\r|\n)", written):
        if code == "\r":
            column = 0
        elif code == "\n":
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        elif code == "\x1b[A":
            row = max(0, row - 1)
        else:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + code + line[column + len(code) :]
            column += len(code)
    return [line.rstrip() for line in lines]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="opens a terminal")
def test_a_terminal_shows_the_header_and_in_the_end_no_bar(data_dir: Path, tmp_path: Path) -> None:
    import fcntl
    import termios

    limits = [f"--trainer.limit_{part}_batches=41" for part in ("train", "test")]
    flags = [*limits, "--trainer.limit_val_batches=2", "--trainer.max_epochs=2", "--model.wide=4"]
    terminal, other_end = os.openpty()
    fcntl.ioctl(other_end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    command = [sys.executable, "-m", "mnist_lit.train", "--data.data_dir", str(data_dir), *flags]
    with subprocess.Popen(command, cwd=tmp_path, stdout=other_end, stderr=other_end) as process:
        os.close(other_end)
        written = b""
        with contextlib.suppress(OSError):  # the other end is closed: the command has ended
            while True:
                written += os.read(terminal, 10_000)
    os.close(terminal)
    text = written.decode()
    assert process.returncode == 0, text
    assert re.search(r"epoch 1/2: .*acc=\S+ %, whole fit=\d\d:\d\d left", text)
    lines = screen(text)
    assert re.match(r"DigitNet, [\d,]+ parameters, on ", lines[0])
    assert [line[:10] for line in lines[1:3]] == ["epoch  1/2", "epoch  2/2"]
    assert lines[3] == ""
    assert lines[4].startswith("device ")
    assert not re.search("it/s|Testing", "\n".join(lines))
