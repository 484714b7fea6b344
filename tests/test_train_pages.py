"""The command that trains the page network."""

from pathlib import Path

import pytest
import torch

from mnist_lit.page_network import PageNet
from mnist_lit.train_pages import main

QUICK = [
    *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false", "--trainer.num_sanity_val_steps", "0"),
    *("--data.pages", "2", "--data.val_pages", "2", "--data.batch_size", "2"),
    *("--data.num_workers", "0", "--trainer.log_every_n_steps", "1"),
]


def test_a_fit_writes_the_weights_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    main(["fit", "--trainer.max_epochs", "2", *QUICK])
    printed = capsys.readouterr().out
    assert "pages that are exactly right, of held-out writers: " in printed
    folder = tmp_path / "lightning_logs" / "version_0"
    assert f"weights in {Path('lightning_logs') / 'version_0'}" in printed
    PageNet().load_state_dict(torch.load(folder / "pagenet.pt", weights_only=True))
    assert (folder / "pagenet.onnx").stat().st_size > 200_000
    [last] = folder.glob("checkpoints/last.ckpt")
    main(["--trainer.max_epochs", "2", "--ckpt_path", str(last), *QUICK])
    trained, restored = (
        torch.load(tmp_path / "lightning_logs" / run / "pagenet.pt", weights_only=True)
        for run in ("version_0", "version_1")
    )
    assert all(torch.equal(value, restored[name]) for name, value in trained.items())


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--model.muon_lr", "fast"], "muon_lr"),
        (["--data.sheets", "3"], "data.sheets"),
        (["train"], "train"),
    ],
)
def test_a_wrong_flag_is_named(
    flags: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert named in error
    assert len(error.splitlines()) <= 2
