"""A target in a package of its own: files of torch.export, run by PyTorch. docs/guides/add-a-target.md explains it."""

from __future__ import annotations

import os
import sys
import zipfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge.errors import InputError
from wdp_edge.io.files import atomic_path
from wdp_edge.protocols.precision import Precision, PrecisionFamily
from wdp_edge.protocols.target import (
    Artifact,
    Contents,
    ExportOptions,
    OperatorCount,
    TensorInfo,
    WeightBytes,
    check_options,
)

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from wdp_edge.runners.build import Bundle

# Weights with the digits of bfloat16: judged as fp16 files are, and tried by `--precision auto` before fp32.
SHORT = Precision("toy-bf16", PrecisionFamily.FP16, speed=0.9)


class ToyTarget:
    """The target `toy`."""

    name = "toy"
    suffix = ".pt2"
    precisions = (Precision.FP32, SHORT)
    default_precision = Precision.FP32
    observers = ()
    mlp_width_multiple = 8

    def timed_here(self) -> bool:
        return True

    def missing(self) -> list[str]:
        return ["toy-kit>=1"] if os.environ.get("WDP_EDGE_TOY_LACKS") else []  # FAULT for tests: a missing package

    def versions(self) -> dict[str, str]:
        return {"torch": version("torch")}

    def export(self, model: nn.Module, example: Tensor, path: Path, options: ExportOptions) -> Artifact:
        import torch

        from wdp_edge.lowering.vit import lower

        check_options(self, options)
        lowered = lower(model)
        break_on_purpose(lowered)
        if options.precision == SHORT:
            shorten(lowered, options.keep_float)
        with torch.no_grad():
            program = torch.export.export(lowered, (example,))
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.export.save(program, file, extra_files=dict(options.metadata))
        return Artifact.of(path, self.name, options.precision)

    def load(self, path: Path, threads: int) -> ToyProgram:
        import torch

        if os.environ.get("WDP_EDGE_TOY_REFUSES"):  # FAULT for tests: files that this machine cannot run
            raise InputError(f"{path} uses what the toy does not know.", "Run it elsewhere.")
        torch.set_num_threads(threads)
        return ToyProgram(read(path)[0])

    def bundle(self, arch: str) -> Bundle:
        from wdp_edge.runners.build import bundle_of

        runner = Path(__file__).with_name("wdp_edge_toy_runner.py")
        return bundle_of({"runner.py": runner}, (sys.executable, "./runner.py"), f"torch {version('torch')}")

    def inspect(self, path: Path) -> Contents:
        program, metadata = read(path)
        shape, dtype = input_of(program)
        calls = Counter(str(n.target) for n in program.graph.nodes if n.op == "call_function")
        weights = list(program.state_dict.values())
        return Contents(
            inputs=(TensorInfo("image", shape, dtype),),
            outputs=(TensorInfo("logits", tuple(program.graph.output_node().args[0][0].meta["val"].shape), "float32"),),
            operators=tuple(OperatorCount(kind, count, 0) for kind, count in sorted(calls.items())),
            weights=(WeightBytes("float32", len(weights), sum(w.numel() * w.element_size() for w in weights)),),
            delegates=0,
            metadata=metadata,
        )


class ToyProgram:
    """A loaded .pt2."""

    def __init__(self, program: ExportedProgram) -> None:
        self.input_shape, self.input_dtype = input_of(program)
        self._module = program.module()

    def __call__(self, x: Tensor) -> Tensor:
        return self._module(x)


def read(path: Path) -> tuple[ExportedProgram, dict[str, str]]:
    """The program and its texts. Raises InputError for what is no .pt2."""
    import torch

    texts = {"wdp_edge": ""}
    try:
        with zipfile.ZipFile(path) as whole:
            whole.testzip()
        program = torch.export.load(path, extra_files=texts)
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        hint = "Export it again with: wdp-edge export --target toy"
        raise InputError(f"{path} is not a whole .pt2 file.", hint) from error
    return program, {k: v for k, v in texts.items() if v}


def input_of(program: ExportedProgram) -> tuple[tuple[int, ...], str]:
    image = next(n for n in program.graph.nodes if n.name == program.graph_signature.user_inputs[0]).meta["val"]
    return tuple(image.shape), str(image.dtype).removeprefix("torch.")


def shorten(lowered: nn.Module, keep_float: tuple[str, ...]) -> None:
    """Rounds the weights of layers to bfloat16, and leaves those alone that are to stay as they are."""
    from wdp_edge.lowering.vit import matches

    for name, parameter in lowered.named_parameters():
        if parameter.ndim > 1 and not matches(name.removesuffix(".weight"), keep_float):
            parameter.data.copy_(parameter.data.bfloat16().float())


def break_on_purpose(lowered: nn.Module) -> None:
    """FAULT for tests of verification: WDP_EDGE_TOY_BREAKS=blocks.1.attn.proj makes that layer forget its weights."""
    layer = os.environ.get("WDP_EDGE_TOY_BREAKS")
    for name, parameter in lowered.named_parameters():
        if layer and name.endswith(f"{layer}.weight"):
            parameter.data.zero_()
