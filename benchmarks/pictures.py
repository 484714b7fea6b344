"""The pictures of a run in README.md and benchmarks/README.md, from what it logged for TensorBoard.

    python benchmarks/pictures.py lightning_logs/version_0

Writes curves.png and errors.png to benchmarks/results/.
"""

import sys

from matplotlib.figure import Figure
from studies import RESULTS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main(run: str) -> None:
    events = EventAccumulator(run, size_guidance={"scalars": 0}).Reload()
    # The file name of a picture's tag: the curves beside each other, the digits as logged.
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    steps_per_epoch = events.Scalars("val/acc")[0].step + 1
    left, middle, right = figure.subplots(1, 3)
    for axes, name, scale in [(left, "acc", 100), (middle, "loss", 1)]:
        for stage, color in [("train", "tab:gray"), ("val", "tab:blue")]:
            points = events.Scalars(f"{stage}/{name}")
            epochs = [(point.step + 1) / steps_per_epoch for point in points]
            axes.plot(epochs, [scale * p.value for p in points], color=color, label=stage)
    left.axhline(99.4, color="tab:red", linewidth=0.8, label="99.4 %")
    left.set(ylim=(97, 100), xlabel="epoch", title="accuracy, %")
    middle.set(yscale="log", xlabel="epoch", title="loss")
    rates = events.Scalars("lr")
    right.plot(
        [p.step / steps_per_epoch for p in rates], [p.value for p in rates], color="tab:green"
    )
    right.set(xlabel="epoch", title="learning rate")
    left.legend()
    middle.legend()
    figure.savefig(RESULTS / "curves.png", dpi=100)
    [errors] = events.Images("val/errors")
    (RESULTS / "errors.png").write_bytes(errors.encoded_image_string)


if __name__ == "__main__":
    main(*sys.argv[1:])
