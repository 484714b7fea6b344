"""The batched augmentation against torchvision's per-image transforms, on real digits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from mnist_lit.augment import Augmentation, affine, jitter
from mnist_lit.data import Digits

ORIGINAL = Augmentation(translate=0.1)  # as configs/original.yaml has it
STRONG = Augmentation(degrees=40, translate=0.3, scale=0.3, shear=20, brightness=0.5, contrast=0.5)


@pytest.fixture(scope="module")
def images(digits: Digits) -> Tensor:
    return digits.images[:2000].float() / 255


def test_affine_and_jitter_equal_torchvision_on_the_same_draws(images: Tensor) -> None:
    images = torch.nn.functional.pad(images[:50], (0, 6))  # 28 x 34: height is not width
    draws = STRONG.draw(images)
    moved, changed = affine(images, draws), jitter(images, draws)
    for i, image in enumerate(images):
        expected = tv.affine(
            image,
            angle=draws.degrees[i].item(),
            translate=[draws.shift_x[i].item(), draws.shift_y[i].item()],
            scale=draws.scale[i].item(),
            shear=[draws.shear[i].item(), 0.0],
            interpolation=tv.InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(moved[i], expected, rtol=0, atol=1e-4)
        steps = [
            lambda x, i=i: tv.adjust_contrast(x, draws.contrast[i].item()),
            lambda x, i=i: tv.adjust_brightness(x, draws.brightness[i].item()),
        ]
        for step in reversed(steps) if draws.brightness_first[i] else steps:
            image = step(image)
        torch.testing.assert_close(changed[i], image, rtol=0, atol=1e-5)


def test_drawn_parameters_have_torchvisions_moments(images: Tensor) -> None:
    """Mean and standard deviation of every parameter, over 20,000 draws of each kind."""
    torch.manual_seed(0)
    number = 20_000
    ours = ORIGINAL.draw(images[:1].expand(number, -1, -1, -1))
    random_affine = v2.RandomAffine(degrees=7, translate=(0.1, 0.1), scale=(0.9, 1.1), shear=5)
    theirs = [random_affine.make_params([images[0]]) for _ in range(number)]
    assert {params["shear"][1] for params in theirs} == {0.0}
    for mine, reference in [
        (ours.degrees, [params["angle"] for params in theirs]),
        (ours.shift_x, [params["translate"][0] for params in theirs]),
        (ours.shift_y, [params["translate"][1] for params in theirs]),
        (ours.scale, [params["scale"] for params in theirs]),
        (ours.shear, [params["shear"][0] for params in theirs]),
    ]:
        expected = torch.tensor(reference, dtype=torch.float)
        error = expected.std() * (2 / number) ** 0.5  # of the difference of two means
        assert abs(mine.mean() - expected.mean()) < 5 * error
        assert mine.std().item() == pytest.approx(expected.std().item(), rel=0.03)
        assert mine.max().item() == pytest.approx(expected.max().item(), rel=0.01)
    assert set(ours.shift_x.tolist()) == {-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0}
    for factor in (ours.brightness, ours.contrast):
        assert factor.mean().item() == pytest.approx(1, abs=0.005)
        assert factor.std().item() == pytest.approx(0.4 / 12**0.5, rel=0.03)
    assert ours.brightness_first.float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_augmented_pixels_have_torchvisions_moments(images: Tensor) -> None:
    torch.manual_seed(0)
    reference = v2.Compose(
        [
            v2.RandomAffine(
                degrees=7,
                translate=(0.1, 0.1),
                scale=(0.9, 1.1),
                shear=5,
                interpolation=tv.InterpolationMode.BILINEAR,
            ),
            v2.ColorJitter(brightness=0.2, contrast=0.2),
        ]
    )
    theirs = torch.stack([reference(image) for image in images])
    ours = ORIGINAL(images)
    assert ours.mean().item() == pytest.approx(theirs.mean().item(), rel=0.01)
    assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.01)
    # Pixel by pixel, over 2,000 digits: the average digit is spread over the same places.
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), rtol=0, atol=0.04)
    torch.testing.assert_close(ours.std(0), theirs.std(0), rtol=0, atol=0.04)
    assert (ours.mean(0) - images.mean(0)).abs().max() > 0.05  # and not where they were


def test_zero_strength_returns_the_images(images: Tensor) -> None:
    off = Augmentation(degrees=0, translate=0, scale=0, shear=0, brightness=0, contrast=0)
    torch.testing.assert_close(off(images), images, rtol=0, atol=1e-5)


def test_every_image_gets_its_own_draw(images: Tensor) -> None:
    same = images[:1].expand(64, -1, -1, -1)
    assert len({tuple(image.flatten().tolist()) for image in Augmentation()(same)}) == 64
    for name, draw in STRONG.draw(same)._asdict().items():
        assert draw.shape == (64,), name
        assert len(draw.unique()) > 1, name


def test_a_seed_repeats_it_and_the_images_stay_as_they_were(images: Tensor) -> None:
    before = images.clone()
    torch.manual_seed(1)
    first = STRONG(images)
    torch.manual_seed(1)
    torch.testing.assert_close(STRONG(images), first, rtol=0, atol=0)
    torch.testing.assert_close(images, before, rtol=0, atol=0)
    assert first.min() >= 0
    assert first.max() <= 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("degrees", -1), ("degrees", 181), ("scale", 1), ("translate", float("nan"))],
)
def test_bad_strength_names_the_flag(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"--data.augmentation.{name}"):
        Augmentation(**{name: value})


@given(
    shape=st.tuples(st.integers(0, 5), st.integers(1, 40), st.integers(1, 40)),
    strength=st.tuples(
        *(st.floats(0, limit) for limit in (180, 1, 0.99, 89, 1, 1)),
    ),
    kind=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=200)
def test_any_batch_stays_a_batch_in_range(
    shape: tuple[int, int, int], strength: tuple[float, ...], kind: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    batch, height, width = shape
    images = torch.rand(batch, 1, height, width, dtype=kind)
    augmented = Augmentation(*strength)(images)
    assert augmented.shape == images.shape
    assert augmented.isfinite().all()
    assert ((augmented >= 0) & (augmented <= 1)).all()
