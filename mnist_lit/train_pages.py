"""Train the page network: `mnist-lit train_pages [fit|validate] [flags]`.

A fit ends with the network's weights beside its checkpoints: pagenet.pt, and pagenet.onnx, which
`predict` runs. `--ckpt_path FILE` resumes a fit.
"""

import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from mnist_lit.__main__ import guarded
from mnist_lit.console import quiet, relative
from mnist_lit.errors import SettingError, fail
from mnist_lit.files import written_whole
from mnist_lit.page_network import PageDetector, PagesDataModule, write_onnx


class Parser(LightningArgumentParser):
    """Reports a wrong flag in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise SettingError(message) from ex


class PagesCLI(LightningCLI):
    """The flags of the Trainer, the PageDetector and the PagesDataModule."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parser.parse_args(args)  # without Lightning's warning about `args`

    def after_fit(self) -> None:
        trainer = self.trainer
        if self.config_init["fit"]["trainer"]["fast_dev_run"] or not trainer.is_global_zero:
            return
        folder, network = Path(trainer.log_dir or "."), self.model.ema.module.eval()
        accuracy = trainer.callback_metrics.get("val/acc")
        if accuracy is not None:
            print(f"pages that are exactly right, of held-out writers: {100 * accuracy:.2f} %")
        with written_whole(folder / "pagenet.pt") as partial:
            torch.save(network.state_dict(), partial)
        with written_whole(folder / "pagenet.onnx") as partial:
            write_onnx(network, partial)
        print(f"weights in {relative(folder)}")


def main(args: list[str] | None = None) -> None:
    """Run the command.

    Args:
        args: The words after `mnist-lit train_pages`; by default those of the process.

    Raises:
        SystemExit: With status 2 for a wrong flag, file or folder.
    """
    quiet()
    # A resumed fit has a folder of its own.
    warnings.filterwarnings("ignore", message="The dirpath has changed")
    args = list(sys.argv[1:] if args is None else args)
    if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
        args = ["fit", *args]
    try:
        PagesCLI(
            PageDetector,
            PagesDataModule,
            args=args,
            seed_everything_default=1,
            parser_class=Parser,
            auto_configure_optimizers=False,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "max_epochs": 72,
                "logger": {
                    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                    "init_args": {"save_dir": ".", "name": "lightning_logs"},
                },
                "callbacks": [
                    ModelCheckpoint(save_last=True),
                    LearningRateMonitor("step"),
                ],
            },
        )
    except (SettingError, MisconfigurationException) as error:
        fail(error, status=2)


if __name__ == "__main__":
    guarded(main, by_exception=True)
