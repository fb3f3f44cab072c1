"""Makes .tflite files: the float32 file of the lowered model first, then smaller weights, texts and versions."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from wdp_edge import progress
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import atomic_path
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, ExportOptions, Observer, check_options
from wdp_edge.targets.shared.quiet import cheap_provenance, quiet, silent_stderr
from wdp_edge.targets.shared.reuse import LastConversion
from wdp_edge.targets.tflite.runtime import PREFIX

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.fx import Node

    from wdp_edge.protocols.target import Target

_STEPS = 3
_CONVERTER = {"litert_torch": "litert-torch>=0.10,<0.11", "ai_edge_quantizer": "ai-edge-quantizer>=0.10,<0.11"}


class TFLiteFiles:
    """The half of a target that makes .tflite files; the other half runs them."""

    name: str
    suffix = ".tflite"
    precisions: tuple[Precision, ...]
    default_precision: Precision
    observers: tuple[Observer, ...] = (Observer.MSE, Observer.MINMAX, Observer.PERCENTILE)
    imports = ("litert_torch",)

    def __init__(self) -> None:
        self._converted: LastConversion[bytes] = LastConversion()

    def versions(self) -> dict[str, str]:
        """Packages that shape the artifact and their versions."""
        packages = (
            "ai-edge-litert",
            "tflite-runtime",
            "litert-torch",
            "litert-converter",
            "ai-edge-quantizer",
            "torch",
        )
        known = {p: version(p) for p in packages if find_spec(p.replace("-", "_"))}
        return {**known, "wdp-edge": version("wdp-edge")}

    def fitted(self, data: bytes) -> bytes:
        """The float32 file in the form that its unit takes."""
        return data

    def prepared(self, lowered: nn.Module, options: ExportOptions) -> nn.Module:
        """The lowered model as its unit can compute it; changed in place."""
        return lowered

    def form(self, precision: Precision) -> Precision:
        """How weights of a precision are stored."""
        return precision

    def export(self, model: nn.Module, example: Tensor, path: Path, options: ExportOptions) -> Artifact:
        """Writes the .tflite, atomically.

        model: a timm ViT (or any module), not modified. example: [1, ...].
        Raises InputError for what the target cannot do, and when int8-static gets no calibration images; SetupError
        without the converter.
        """
        check_options(cast("Target", self), options)  # the other half is the subclass's
        if options.precision == Precision.INT8_STATIC and options.calibration is None:
            raise InputError("int8-static needs calibration images.", "Give training images, or use int8-dynamic.")
        if lacking := [r for name, r in _CONVERTER.items() if not find_spec(name)]:
            raise SetupError(
                f"Exporting to '{self.name}' needs {', '.join(lacking)}.",
                "Install it with: pip install 'wdp-edge[tflite]' on a machine that it is available for.",
            )
        import torch

        from wdp_edge.lowering.vit import check_kept, lower
        from wdp_edge.targets.tflite.pack import pack, state_versions, unpack
        from wdp_edge.targets.tflite.precisions import quantize

        with progress.task(f"export {options.precision}", _STEPS) as advance, torch.no_grad():
            lowered = self.prepared(lower(model), options)
            check_kept(lowered, options.keep_float)
            with silent(), cheap_provenance():
                program = torch.export.export(lowered, (example,))
            data: bytes | bytearray = self._converted.get(program, lambda: self.fitted(convert(lowered, example)))
            advance(1)
            if options.precision != Precision.FP32:
                with silent():
                    stored = replace(options, precision=self.form(options.precision))
                    data = quantize(bytes(data), lowered, stored, options.observer or self.observers[0])
            advance(1)
            contents = unpack(data)
            state_versions(contents)
            with atomic_path(path) as temporary:
                temporary.write_bytes(pack(contents, {PREFIX + k: v for k, v in options.metadata.items()}))
            advance(1)
        return Artifact.of(path, self.name, options.precision)


def convert(lowered: nn.Module, example: Tensor) -> bytes:
    """The float32 .tflite of a lowered model."""
    with silent(), cheap_provenance():
        import litert_torch

        with named_by_part():
            model = litert_torch.convert(lowered, (example,))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tflite"
            model.export(str(path))
            return path.read_bytes()


@contextlib.contextmanager
def named_by_part() -> Iterator[None]:
    """Tensors get the name of the model's part that makes them, such as "blocks.3.attn.q", not of classes.

    The converter writes the class of every module on the way there into a tensor's name.
    """
    from litert_torch.backend.debuginfo import _build

    def part(node: Node) -> str:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        return f"{(stack and stack[-1][0]) or 'model'};"

    before = _build._get_hierarchy
    _build._get_hierarchy = part
    try:
        yield
    finally:
        _build._get_hierarchy = before


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keeps what the toolkits print, from Python and from C++, off stdout and stderr."""
    with quiet(), silent_stderr(), contextlib.redirect_stderr(io.StringIO()):
        yield
