"""Strokes: off by default and bit for bit so, an own draw for each image, and what each does."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mnist_lit.augment import Augmentation
from mnist_lit.data import Digits
from mnist_lit.network import DigitNet
from mnist_lit.strokes import LARGEST, LIMITS, Strokes, cut, edges, enlarge, frame, pen, warp

STRENGTHS = {
    "width": 0.8,
    "slant": 20.0,
    "stretch": 0.5,
    "elastic": 1.0,
    "blur": 1.0,
    "coarse": 1.5,
    "gamma": 0.5,
    "noise": 0.1,
    "line": 0.5,
    "cut": 3.0,
}


@pytest.fixture(scope="module")
def images(digits: Digits) -> Tensor:
    return digits.images[:200].float() / 255


def column(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def still(images: Tensor, **changes: Tensor) -> Tensor:
    """`warp` with nothing but the changes."""
    one = torch.ones(len(images), 1, 1, 1)
    nothing = {"slant": 0 * one, "stretch": one, "scale": one}
    return warp(images, **{**nothing, "elastic": torch.zeros(len(images), 2, 4, 4), **changes})


def test_off_by_default_returns_the_images_and_draws_nothing(images: Tensor) -> None:
    before = torch.get_rng_state()
    for off in (Strokes(), Strokes(share=0, **STRENGTHS)):
        assert torch.equal(off(images), images)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_field_has_a_strength_here() -> None:
    assert {field.name for field in dataclasses.fields(Strokes)} == {"share", *STRENGTHS}


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_flag_changes_images_each_by_its_own_draw(name: str, images: Tensor) -> None:
    torch.manual_seed(0)
    same = images[3:4].expand(64, -1, -1, -1)
    changed = Strokes(**{name: STRENGTHS[name]})(same)
    assert len({tuple(image.flatten().tolist()) for image in changed}) > 3
    assert ((changed >= 0) & (changed <= 1)).all()


def test_share_leaves_the_other_images_bit_for_bit(images: Tensor) -> None:
    torch.manual_seed(0)
    changed = Strokes(share=0.25, **STRENGTHS)(images)
    same = (changed == images).flatten(1).all(dim=1).float().mean().item()
    assert same == pytest.approx(0.75, abs=0.1)


def test_a_seed_repeats_it_and_the_images_stay_as_they_were(images: Tensor) -> None:
    before = images.clone()
    torch.manual_seed(1)
    first = Strokes(**STRENGTHS)(images)
    torch.manual_seed(1)
    assert torch.equal(Strokes(**STRENGTHS)(images), first)
    assert torch.equal(images, before)


def test_pen_widens_and_thins(images: Tensor) -> None:
    ink = images.sum(dim=(1, 2, 3))
    wider, thinner = (
        pen(images, torch.full((len(images), 1, 1, 1), width)).sum(dim=(1, 2, 3))
        for width in (0.5, -0.5)
    )
    assert (wider > 1.1 * ink).all()
    assert (thinner < 0.9 * ink).all()
    assert (thinner > 0).all()
    assert torch.equal(pen(images, torch.zeros(len(images), 1, 1, 1)), images)


def test_warp_slants_to_the_right_above() -> None:
    stick = torch.zeros(2, 1, 28, 28)
    stick[:, :, 4:24, 13:15] = 1
    upright, slanted = still(stick, slant=column(0, 30))[:, 0]
    torch.testing.assert_close(upright, stick[0, 0], rtol=0, atol=1e-5)
    top, bottom = slanted[5].argmax(), slanted[22].argmax()
    assert int(bottom - top) == pytest.approx(-17 * 0.577, abs=1.5)


def test_warp_stretches_and_keeps_the_longer_side() -> None:
    square = torch.zeros(2, 1, 28, 28)
    square[:, :, 4:24, 4:24] = 1
    ink = edges(still(square, stretch=column(0.5, 2)))
    assert (ink.right - ink.left).flatten().tolist() == pytest.approx([10, 20], abs=1)
    assert (ink.bottom - ink.top).flatten().tolist() == pytest.approx([20, 10], abs=1)


def test_warp_bends_by_pixels(images: Tensor) -> None:
    elastic = torch.zeros(len(images), 2, 4, 4)
    elastic[:, 0] = 2  # every output pixel takes its value from two pixels to the right
    moved = still(images, elastic=elastic)
    torch.testing.assert_close(moved[..., :-2], images[..., 2:], rtol=0, atol=1e-4)


def test_edges_are_those_of_the_ink() -> None:
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, 5:9, 11:20] = 1
    assert [int(edge) for edge in edges(image)] == [5, 8, 11, 19]


@pytest.mark.parametrize("side", range(4))
def test_cut_and_frame_take_one_side(side: int) -> None:
    square = torch.zeros(1, 1, 28, 28)
    square[:, :, 8:20, 8:20] = 1
    sides = torch.full((1, 1, 1, 1), side)
    lost = [int(edge) for edge in edges(cut(square, column(3), sides))]
    framed = [int(edge) for edge in edges(frame(square, sides, column(1), column(1)))]
    assert lost[side] == {0: 11, 1: 16, 2: 11, 3: 16}[side]
    assert [edge for i, edge in enumerate(lost) if i != side] == [
        edge for i, edge in enumerate([8, 19, 8, 19]) if i != side
    ]
    assert framed[side] == {0: 6, 1: 21, 2: 6, 3: 21}[side]
    assert framed[side ^ 1] == [8, 19, 8, 19][side ^ 1]


def test_enlarge_loses_detail_and_keeps_the_ink(images: Tensor) -> None:
    finer = enlarge(images, torch.zeros(len(images), 1, 1, 1))
    torch.testing.assert_close(finer, images, rtol=0, atol=1e-6)
    coarser = enlarge(images, torch.full((len(images), 1, 1, 1), 2.0))
    torch.testing.assert_close(
        coarser.mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3)), rtol=0.2, atol=0
    )
    detail = [(x[..., 1:] - x[..., :-1]).square().mean() for x in (images, coarser)]
    assert detail[1] < 0.6 * detail[0]


@pytest.mark.parametrize(
    ("name", "value"), [("share", 1.1), ("width", 1.1), ("slant", -1), ("blur", float("nan"))]
)
def test_bad_strength_names_the_flag(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"--data.strokes.{name}"):
        Strokes(**{name: value})


class RefusesAsMPS(TorchDispatchMode):
    """Lets the device `meta` stand in for Apple's MPS, with two things that MPS refuses."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.device.type == "meta":
            if result.dtype == torch.float64:
                raise TypeError("the MPS framework doesn't support float64")
            if "adaptive" in func.name():
                sizes = zip(args[0].shape[-2:], result.shape[-2:], strict=True)
                if any(side % size for side, size in sizes):
                    raise RuntimeError("Adaptive pool MPS: input sizes must be divisible")
        return result


def test_apples_mps_is_not_asked_for_what_it_refuses(images: Tensor) -> None:
    with RefusesAsMPS():
        on_mps = images.to("meta")
        with pytest.raises(RuntimeError, match="must be divisible"):
            F.adaptive_avg_pool1d(on_mps[0], 13)
        changed = Strokes(**STRENGTHS)(Augmentation()(on_mps))
        loss = F.cross_entropy(
            DigitNet().to("meta")(changed), torch.zeros(200, device="meta").long()
        )
        loss.backward()
    assert changed.shape == images.shape
    assert changed.device.type == "meta"


@given(
    shape=st.tuples(st.integers(0, 4), st.integers(8, 32), st.integers(8, 32)),
    strengths=st.fixed_dictionaries(
        {name: st.floats(0, LIMITS.get(name, LARGEST)) for name in STRENGTHS}
    ),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=100)
def test_any_batch_stays_a_batch_in_range(
    shape: tuple[int, int, int], strengths: dict[str, float], seed: int
) -> None:
    torch.manual_seed(seed)
    batch, height, width = shape
    images = torch.rand(batch, 1, height, width)
    changed = Strokes(**strengths)(images)
    assert changed.shape == images.shape
    assert changed.isfinite().all()
    assert ((changed >= 0) & (changed <= 1)).all()
