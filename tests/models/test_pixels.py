"""Normalisation and the order of channels, folded into the model: exact."""

from __future__ import annotations

import pytest
import timm
import torch
from tiny_families import FORMS, made

from wdp_edge.errors import InputError
from wdp_edge.models.pixels import fold_normalization, take_rgb

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_pixels_in_give_what_normalised_images_gave(form: str) -> None:
    model = made(form)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pixels = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0)).float()
    normalised = (pixels / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert torch.allclose(fold_normalization(model, MEAN, STD)(pixels), model(normalised), atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_models_are_refused() -> None:
    with pytest.raises(InputError, match="ResNet"):
        fold_normalization(timm.create_model("resnet10t"), MEAN, STD)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_a_model_of_blue_green_red_takes_red_green_blue(form: str) -> None:
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(take_rgb(made(form), "bgr")(images), made(form)(images.flip(1)), atol=1e-5)
    assert torch.equal(take_rgb(made(form), "rgb")(images), made(form)(images))


def test_a_model_without_such_a_convolution_has_no_order() -> None:
    with pytest.raises(InputError, match="channels = bgr"):
        take_rgb(torch.nn.Linear(3, 3), "bgr")
