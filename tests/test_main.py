"""`mnist-lit` and `python -m mnist_lit`: the same commands under one name."""

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import MNIST_LIT
from PIL import Image

from mnist_lit.__main__ import VERBS, main
from mnist_lit.assets import first_test_digit

MISSED = {
    **{"train": "--flag", "predict": "FILE", "export": "--output"},
    **{"demo": "--flag", "sheet": "--output", "train_pages": "--flag"},
}


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """What Ctrl-C and SIGTERM do to the tests is as before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_is_the_command_of_that_module(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mnist-lit", verb, "--flag"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert MISSED[verb] in capsys.readouterr().err


def test_help_and_a_wrong_verb_name_the_verbs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mnist-lit", "--help"])
    main()
    printed = capsys.readouterr().out
    assert all(does in printed for does in VERBS.values())
    monkeypatch.setattr(sys, "argv", ["mnist-lit", "trian"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.endswith("error: 'trian' is none of these\n")


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("seven") / "seven.png"
    Image.fromarray(first_test_digit()[0].numpy()).resize((84, 84)).save(path)
    return path


# What a verb prints first, in seconds.
PRINTS: dict[str, list[str]] = {
    "train": ["train", "fit", "--help"],
    "predict": ["predict", "seven.png"],
    "export": ["export", "--help"],
    "demo": ["demo", "--port", "0"],
    "sheet": ["sheet", "--output", "form.svg"],
    "none": ["--help"],
}


def run(
    arguments: list[str], folder: Path, program: list[str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **options.pop("env", {})}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120} | options
    program = program or [MNIST_LIT]
    return subprocess.run(
        [*program, *arguments], cwd=folder, text=True, check=False, env=env, **options
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
@pytest.mark.parametrize("verb", PRINTS)
def test_a_full_disk_under_standard_output_is_told_in_a_line(verb: str, seven: Path) -> None:
    with open("/dev/full", "w") as full:
        done = run(PRINTS[verb], seven.parent, stdout=full)
    assert done.stderr == "error: standard output: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize("verb", [verb for verb in PRINTS if verb != "demo"])
def test_a_reader_that_has_gone_ends_a_verb_without_a_word(verb: str, seven: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(PRINTS[verb], seven.parent, stdout=writing)
    finally:
        os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 141


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize("verb", ["train", "predict", "sheet"])
def test_closed_streams_take_nothing_and_do_no_harm(verb: str, seven: Path, data_dir: Path) -> None:
    arguments = PRINTS[verb]
    if verb == "train":
        arguments = [
            verb,
            "--config=debug",
            "--trainer.fast_dev_run=1",
            f"--data.data_dir={data_dir}",
        ]
    shell = ["sh", "-c", '"$@" <&- >&-', "sh", MNIST_LIT]
    done = run(arguments, seven.parent, shell, env={"OMP_NUM_THREADS": "1"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("verb", ["predict", "sheet"])
def test_names_that_the_terminal_cannot_show_are_escaped(
    verb: str, encoding: str, seven: Path
) -> None:
    name = {"predict": "zahl-\u0416.png", "sheet": "zahl-\u0416.svg"}[verb]
    (seven.parent / name).write_bytes(seven.read_bytes())
    arguments = [verb, name] if verb == "predict" else [verb, "--output", name]
    done = run(arguments, seven.parent, env={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("zahl-\\u0416.")


@pytest.mark.parametrize(
    ("program", "named"),
    [
        ([MNIST_LIT, "predict"], "mnist-lit predict"),
        ([sys.executable, "-m", "mnist_lit", "predict"], "python -m mnist_lit predict"),
        ([sys.executable, "-m", "mnist_lit.predict"], "python -m mnist_lit.predict"),
        ([MNIST_LIT, "train", "--help"], "mnist-lit train"),
    ],
)
def test_the_usage_names_the_command_that_was_typed(
    program: list[str], named: str, tmp_path: Path
) -> None:
    done = run([], tmp_path, program)
    assert (done.stdout + done.stderr).startswith(f"usage: {named} ")


@pytest.mark.parametrize("module", ["predict", "sheet"])
def test_a_module_has_the_guard_of_the_command(module: str, seven: Path) -> None:
    program = [sys.executable, "-m", f"mnist_lit.{module}"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(PRINTS[module][1:], seven.parent, program, stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("uvicorn", ["mnist_lit", "demo"], "demo"),
        ("starlette", ["mnist_lit.demo"], "demo"),
        ("onnx", ["mnist_lit", "export", "--output", "x.onnx"], "export"),
    ],
)
def test_a_missing_extra_is_named_with_its_command(
    module: str, arguments: list[str], extra: str, tmp_path: Path
) -> None:
    absent = f"raise ModuleNotFoundError('No module named {module}', name='{module}')"
    (tmp_path / f"{module}.py").write_text(absent)
    program = [sys.executable, "-m"]
    done = run(arguments, tmp_path, program, env={"PYTHONPATH": str(tmp_path)})
    assert done.stderr == f"error: {module} is missing: pip install '.[{extra}]'\n"
    assert done.returncode == 1


def interrupted(arguments: list[str], folder: Path, after: float | str) -> tuple[int, str, float]:
    """Ctrl-C after so many seconds, or such a line -> status, what was said, seconds to the end."""
    # A shell that started the tests in the background has them ignore Ctrl-C, which is inherited.
    with subprocess.Popen(
        [MNIST_LIT, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        if isinstance(after, float):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(after)
        else:
            assert process.stdout
            while not process.stdout.readline().startswith(after):
                pass
        started = time.perf_counter()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        told = [line for line in out.splitlines() if line.startswith("interrupted")]
        said = "".join(f"{line}\n" for line in told) + err
        return process.returncode, said, time.perf_counter() - started


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
def test_ctrl_c_does_not_wait_for_a_file_that_takes_long(seven: Path) -> None:
    file = io.BytesIO()
    Image.new("L", (7000, 7000), 200).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    last = whole.rindex(b"\xff\xda")
    slow = whole[:-2] + whole[last:-2] * 1000 + whole[-2:]  # goes over the pixels so many times
    (seven.parent / "slow.jpg").write_bytes(slow)
    files = ["seven.png"] * 256 + ["slow.jpg"]  # the first batch is printed
    status, said, seconds = interrupted(["predict", *files], seven.parent, "seven.png")
    assert (status, said) == (130, "interrupted\n")
    assert seconds < 10


# What a verb does for some seconds, and how long it takes on an idle machine.
WORKS: dict[str, tuple[list[str], float]] = {
    "train": (["train", "--config=debug"], 12),
    "predict": (["predict", *["seven.png"] * 1000], 5),
    "export": (["export", "--format", "pt", "--output", "net.pt"], 8),
    "demo": (["demo", "--port", "0"], 8),
    "sheet": (["sheet", "--output", "form.pdf"], 2),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
@pytest.mark.parametrize("verb", WORKS)
def test_ctrl_c_at_any_moment_costs_at_most_a_line(
    verb: str, seven: Path, data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "seven.png").write_bytes(seven.read_bytes())
    arguments, seconds = WORKS[verb]
    if verb == "train":
        arguments = [*arguments, f"--data.data_dir={data_dir}"]
    moments = random.Random(0)
    for _ in range(10):
        # Not sooner: until Python has started, Ctrl-C is not ours.
        moment = moments.uniform(0.3, seconds)
        status, said, _ = interrupted(arguments, tmp_path, moment)
        print(f"{verb} after {moment:.2f} s: {status}, {said!r}")
        assert status in ((0, 130) if verb == "demo" or not said else (130,))
        assert len(said.splitlines()) <= 1
        assert said.startswith("interrupted") or not said
        assert not [*tmp_path.glob(".*")]  # nothing that is written in part
