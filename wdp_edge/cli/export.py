"""`wdp-edge export`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wdp_edge.cli._options import Run
from wdp_edge.cli._print import show_export
from wdp_edge.cli._shared import Json, perform

if TYPE_CHECKING:
    from wdp_edge.results import ExportResult

NEEDS = ("model.name", "data.train", "data.val", "model.checkpoint")


def export(
    run: Run = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="NAME", help="executorch, coreml, tflite, onnx or all; repeatable."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", metavar="NAME", help="fp32, int8-dynamic …, default or auto; repeatable."),
    ] = None,
    accuracy_drop: Annotated[
        float | None,
        typer.Option("--accuracy-drop", metavar="POINTS", help="With --precision auto: what may be lost, such as 0.5."),
    ] = None,
    dense: Annotated[bool, typer.Option("--dense", help="Export wdp-edge.toml's model as it is, not a run's.")] = False,
    fold: Annotated[
        bool, typer.Option("--fold-normalization", help="Files take uint8 pixels: normalisation is part of them.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Export to files for devices, each proven on real images."""

    def call() -> ExportResult:
        import wdp_edge
        from wdp_edge.project import find_run, project_recipe

        folder = wdp_edge.dense_run(project_recipe(Path(), {}, {}, NEEDS)) if dense else find_run(Path(), run)
        return wdp_edge.export(folder, target or (), precision or ("default",), fold, accuracy_drop)

    return perform(call, show_export, as_json)
