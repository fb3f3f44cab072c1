"""Running .pte files: what goes in, what comes out, and what this runtime cannot run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pte_files import exported, inspected, logits, vit

from wdp_edge.errors import InputError
from wdp_edge.models.pixels import fold_normalization
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, TensorInfo, get_target
from wdp_edge.targets.executorch.runtime import PteProgram, check_delegates

PIXELS = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.INT8_STATIC])
def test_pixels_go_in_as_uint8(tmp_path: Path, precision: Precision) -> None:
    model = vit()
    pixels = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    mean, std = (torch.tensor(p).view(1, 3, 1, 1) for p in PIXELS)
    with torch.no_grad():
        reference = model((pixels / 255 - mean) / std)
    path = exported(tmp_path, ExportOptions(precision, pixels), fold_normalization(model, *PIXELS), pixels[:1])
    assert inspected(path).inputs == (TensorInfo("input", (1, 3, 16, 16), "uint8"),)
    assert get_target("executorch").load(path, 1).input_dtype == "uint8"
    error = float((logits(path, pixels) - reference).abs().max())
    assert error < {Precision.FP32: 1e-4, Precision.FP16: 0.02}.get(precision, 0.3)


def test_outputs_are_tensors_of_their_own(small: Path) -> None:
    program = PteProgram(small, threads=1)
    assert (program.input_shape, program.input_dtype) == ((1, 4), "float32")
    x = torch.randn(1, 8)[:, ::2]
    first = program(x)
    kept = first.clone()
    program(x + 1)
    assert torch.equal(first, kept) and torch.equal(program(x.contiguous()), kept)


def test_a_delegate_that_the_runtime_lacks_is_named(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAKE: a build of the runtime without XNNPACK."""
    from executorch.extension.pybindings import _C

    check_delegates(small)
    monkeypatch.setattr(_C, "_get_registered_backend_names", lambda: ["CoreMLBackend"])
    with pytest.raises(InputError, match="needs XnnpackBackend"):
        check_delegates(small)
