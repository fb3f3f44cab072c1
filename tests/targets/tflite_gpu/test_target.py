"""targets/tflite_gpu/target.py: files of every family, run by the accelerator alone, equal their model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cut_families import cut_model
from tiny_families import FORMS
from tiny_vit import TINY, lively

from wdp_edge.artifacts.parity import compare
from wdp_edge.artifacts.proof import close, simulated_error, tolerance_of, within
from wdp_edge.calibration.simulation import scheme_of
from wdp_edge.commands.inspect import contents_of
from wdp_edge.config.recipe import VerifyRecipe
from wdp_edge.devices.evaluate import run_file
from wdp_edge.errors import InputError
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, check_timed, get_target
from wdp_edge.protocols.task import Output
from wdp_edge.runners.vulkan import has_gpu

pytestmark = pytest.mark.usefixtures("driver")
QUICK = ("eva02", "swin")
TARGET = "tflite:gpu"


def some_images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def exported(model: torch.nn.Module, precision: Precision, folder: Path) -> Path:
    target, images = get_target(TARGET), some_images(16)
    path = folder / f"{precision}{target.suffix}"
    target.export(model, images[:1], path, ExportOptions(precision, images))
    return path


def outputs(path: Path, narrow: bool = False) -> torch.Tensor:
    ran = run_file(TARGET, path, [some_images(4)], 4, "run", processes=1, narrow=narrow)
    assert narrow or ran.on
    return ran.outputs


@pytest.mark.parametrize(
    "form", [form if form in QUICK else pytest.param(form, marks=pytest.mark.slow) for form in FORMS]
)
def test_files_are_taken_whole_and_compute_what_the_model_does(form: str, tmp_path: Path) -> None:
    model, images = cut_model(form), some_images(4)
    with torch.no_grad():
        expected = model(images)
    exact = compare("fp32", expected, outputs(exported(model, Precision.FP32, tmp_path)))
    assert within(exact, tolerance_of(VerifyRecipe(), Precision.FP32))
    half = exported(model, Precision.FP16, tmp_path)
    for narrow in (False, True):
        found = compare("fp16", expected, outputs(half, narrow))
        assert within(found, tolerance_of(VerifyRecipe(), Precision.FP16))


def test_integer_weights_are_taken_and_computed_in_floats(tmp_path: Path) -> None:
    model, images = cut_model("plain"), some_images(4)
    path = exported(model, Precision.INT8_WEIGHT, tmp_path)
    with torch.no_grad():
        parity = compare("int8-weight", model(images), outputs(path))
    scheme = scheme_of(get_target(TARGET), Precision.INT8_WEIGHT)
    assert scheme is not None
    simulated = simulated_error(model, scheme, some_images(16), some_images(16))
    assert close(replace(parity, simulated_error=simulated), tolerance_of(VerifyRecipe(), Precision.INT8_WEIGHT))
    contents = contents_of(get_target(TARGET), path)
    assert all(o.delegated == o.count for o in contents.operators) and "all operators" in contents.notes[0]
    assert sum(w.bytes for w in contents.weights if w.dtype == "int8") > 20_000


@pytest.mark.parametrize(
    "spec", [ModelSpec(TINY.name, 0, TINY.args, Output.UNIT), ModelSpec(TINY.name, 5, TINY.args, Output.MAP)]
)
def test_embeddings_and_maps(spec: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = lively(create(spec)).eval().requires_grad_(False)
    expected = model(some_images(4))
    got = outputs(exported(model, Precision.FP32, tmp_path)).reshape(expected.shape)
    # A share of the largest output, as [verify.fp32] allows it.
    assert float((got - expected).abs().max() / expected.abs().max()) < VerifyRecipe().fp32.error


def test_precisions_and_times_that_there_are_none_of(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'tflite:gpu' has no precision 'int8-dynamic'.*int8-weight"):
        exported(cut_model("plain"), Precision.INT8_DYNAMIC, tmp_path)
    if not has_gpu():
        with pytest.raises(InputError, match="it has no GPU"):
            check_timed(get_target(TARGET))
