"""The page network, its losses and its training."""

from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from mnist_lit.assets import FILES
from mnist_lit.detector import peaks
from mnist_lit.page_network import (
    NONE,
    FreshSeeds,
    PageDetector,
    PageNet,
    PagesDataModule,
    is_exact,
    page_losses,
    write_onnx,
)
from mnist_lit.pages import IGNORED

BOXES = torch.tensor([[[20.0, 40.0, 60.0, 120.0], [100.0, 30.0, 130.0, 60.0], [0, 0, 0, 0]]])
LABELS = torch.tensor([[3, 8, NONE]])


def perfect(boxes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(1, 15, 48, 48): what a network without a fault says of a page."""
    outputs = torch.zeros(1, 15, 48, 48)
    outputs[:, 0] = -12
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    for box, label in zip(boxes[0], labels[0], strict=True):
        if label >= 0:
            centre, size = (box[:2] + box[2:]) / 8, box[2:] - box[:2]
            column, row = centre.int().tolist()
            near = (slice(row - 4, row + 5), slice(column - 4, column + 5))
            outputs[0, 0, row, column] = 12
            outputs[0, 1][near] = (centre[0] - 0.5 - columns)[near]
            outputs[0, 2][near] = (centre[1] - 0.5 - rows)[near]
            outputs[0, 3:5, near[0], near[1]] = (size / 16).log()[:, None, None]
            outputs[0, 5 + label, near[0], near[1]] = 20
    return outputs


def test_the_network_has_at_most_60000_parameters() -> None:
    assert sum(parameter.numel() for parameter in PageNet().parameters()) == 52_691


@pytest.mark.parametrize(("height", "width"), [(64, 64), (192, 192), (96, 320)])
def test_a_page_of_any_size_has_an_output_at_every_fourth_pixel(height: int, width: int) -> None:
    network = PageNet().eval()
    assert network(torch.rand(2, 3, height, width)).shape == (2, 15, height // 4, width // 4)


def test_outputs_without_a_fault_have_no_loss_and_are_exact() -> None:
    outputs = perfect(BOXES, LABELS)
    losses = page_losses(outputs, BOXES, LABELS)
    assert all(float(loss) < 0.01 for loss in losses.values()), losses
    assert is_exact(outputs[0].numpy(), BOXES[0].numpy(), LABELS[0].numpy())


@pytest.mark.parametrize("part", ["centre", "box", "digit"])
def test_each_fault_has_its_loss(part: str) -> None:
    outputs = perfect(BOXES, LABELS)
    if part == "centre":
        outputs[0, 0, 5, 5] = 12  # a digit where there is none
    elif part == "box":
        outputs[0, 3] += 0.5
    else:
        outputs[0, 5:] = outputs[0, 5:].roll(1, dims=0)
    losses = page_losses(outputs, BOXES, LABELS)
    assert float(losses.pop(part)) > 0.1
    assert all(float(loss) < 0.01 for loss in losses.values()), losses
    assert (part == "box") == is_exact(outputs[0].numpy(), BOXES[0].numpy(), LABELS[0].numpy())


def test_a_digit_that_is_left_out_or_cut_is_judged_by_its_label() -> None:
    outputs = perfect(BOXES, torch.tensor([[3, NONE, NONE]]))[0].numpy()
    assert not is_exact(outputs, BOXES[0].numpy(), LABELS[0].numpy())
    cut = torch.tensor([[3, IGNORED, NONE]])
    assert is_exact(outputs, BOXES[0].numpy(), cut[0].numpy())
    with_it = perfect(BOXES, LABELS)
    assert is_exact(with_it[0].numpy(), BOXES[0].numpy(), cut[0].numpy())
    assert float(page_losses(with_it, BOXES, cut)["centre"]) < 0.01


def test_pages_without_a_digit_have_a_finite_loss() -> None:
    none = torch.full((1, 3), NONE)
    losses = page_losses(torch.zeros(1, 15, 48, 48), torch.zeros(1, 3, 4), none)
    assert float(losses["box"]) == float(losses["digit"]) == 0
    assert np.isfinite(float(losses["centre"]))


def test_every_epoch_has_pages_of_its_own_and_validation_the_same() -> None:
    fresh, same = FreshSeeds(3, 100), FreshSeeds(3, 100, again=True)
    for seeds in (fresh, same):
        seeds.set_epoch(2)
    assert list(fresh) == [106, 107, 108]
    assert list(same) == [100, 101, 102]


def test_a_fit_that_was_resumed_equals_an_unbroken_one(tmp_path: Path) -> None:
    def fit(folder: str, stop: int, ckpt: Path | None = None) -> Path:
        torch.manual_seed(0)
        trainer = Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            limit_val_batches=1,
            num_sanity_val_steps=0,
        )
        model = PageDetector()
        data = PagesDataModule(pages=4, val_pages=2, batch_size=2, num_workers=0)
        if stop == 1:
            model.on_train_epoch_end = lambda: setattr(trainer, "should_stop", True)  # type: ignore[method-assign]
        trainer.fit(model, data, ckpt_path=ckpt, weights_only=True)
        trainer.save_checkpoint(tmp_path / folder)
        return tmp_path / folder

    whole = torch.load(fit("whole", 2), weights_only=True)["state_dict"]
    resumed = torch.load(fit("rest", 2, fit("half", 1)), weights_only=True)["state_dict"]
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_opencv_computes_what_torch_does(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    torch.manual_seed(1)
    network = PageNet()
    for _ in range(3):  # statistics of BatchNorm other than the first
        network(torch.rand(2, 3, 64, 64))
    network.eval()
    write_onnx(network, tmp_path / "page.onnx")
    model = cv2.dnn.readNetFromONNX(str(tmp_path / "page.onnx"))
    for height, width in ((64, 192), (192, 192), (96, 64)):
        page = torch.rand(1, 3, height, width)
        model.setInput(page.numpy())
        with torch.inference_mode():
            np.testing.assert_allclose(model.forward(), network(page).numpy(), atol=1e-4)


def test_opencv_has_the_weights_of_the_package() -> None:
    network = PageNet()
    with resources.as_file(FILES / "pagenet.pt") as file:
        network.load_state_dict(torch.load(file, weights_only=True))
    network.eval()
    model = cv2.dnn.readNetFromONNX(np.frombuffer((FILES / "pagenet.onnx").read_bytes(), np.uint8))
    page = torch.rand(1, 3, 128, 96)
    model.setInput(page.numpy())
    with torch.inference_mode():
        np.testing.assert_allclose(model.forward(), network(page).numpy(), atol=1e-3)


def test_peaks_gives_the_boxes_in_pixels_of_the_image() -> None:
    outputs = perfect(BOXES, LABELS)[0].numpy()
    places = sorted(
        peaks(outputs, 2.0, np.array([4, 8], np.float32)), key=lambda place: place.box[0]
    )
    assert [int(place.logits.argmax()) for place in places] == [3, 8]
    offset = np.array([4, 8, 4, 8])
    for place, box in zip(places, BOXES[0].numpy(), strict=False):
        np.testing.assert_allclose(place.box, (box - offset) / 2, atol=0.01)
