"""wdp_edge/artifacts/export_worker.py: what a target is given of a saved model, by a job."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from wdp_edge.artifacts.export_job import ExportJob
from wdp_edge.artifacts.export_worker import perform
from wdp_edge.data.preprocess import normalise
from wdp_edge.models.vit import Prefix
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, ExportOptions, Observer


@dataclass
class Recording:
    """FAKE: a target that keeps what it is given."""

    name, precisions, observers = "recording", (Precision.FP32,), tuple(Observer)
    given: list[tuple[Any, torch.Tensor, Path, ExportOptions]] = field(default_factory=list)

    def export(self, model: Any, example: torch.Tensor, path: Path, options: ExportOptions) -> Artifact:
        self.given.append((model, example, path, options))
        return Artifact(path, "recording", options.precision, 0, "")


@pytest.fixture
def images(job: ExportJob) -> torch.Tensor:
    return load_file(job.calibration)["images"]


def given(model: Any, job: ExportJob) -> tuple[Any, torch.Tensor, Path, ExportOptions]:
    target = Recording()
    assert perform(target, model, job).path == job.path  # type: ignore[arg-type]
    (one,) = target.given
    return one


def test_a_target_gets_normalised_images_and_the_options_of_the_job(
    tiny_model: Any, job: ExportJob, images: torch.Tensor
) -> None:
    whole = replace(job, observer=Observer.MSE, keep_float=["head"], metadata={"k": "v"})
    model, example, path, options = given(tiny_model, whole)
    assert model is tiny_model and path == job.path and (options.observer, options.keep_float) == ("mse", ("head",))
    assert options.metadata == {"k": "v"} and options.calibration is not None
    assert torch.equal(options.calibration, normalise(images, job.preprocessing))
    assert torch.equal(example, options.calibration[:1])


@torch.no_grad()
def test_a_model_for_pixels_takes_them_and_says_the_same(tiny_model: Any, job: ExportJob, images: torch.Tensor) -> None:
    model, example, _, options = given(tiny_model, replace(job, pixels=True))
    assert example.dtype == torch.uint8 and options.calibration is not None
    assert torch.equal(options.calibration, images)
    torch.testing.assert_close(
        model(images.float()), tiny_model(normalise(images, job.preprocessing)), rtol=1e-4, atol=1e-4
    )


def test_the_beginning_of_a_model_is_a_prefix(tiny_model: Any, job: ExportJob) -> None:
    model, *_ = given(tiny_model, replace(job, sublayers=2))
    assert isinstance(model, Prefix)
