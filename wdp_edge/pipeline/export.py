"""One more artifact of a finished run: another target or precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.models import vit
from wdp_edge.models.files import load, read_spec
from wdp_edge.pipeline.context import Context
from wdp_edge.pipeline.sidecar import write_sidecar
from wdp_edge.pipeline.timing import export_model
from wdp_edge.recipe_file import load_recipe
from wdp_edge.results import ExportResult
from wdp_edge.run import Run, finished_run
from wdp_edge.stages import RECIPE
from wdp_edge.verify import compare

PARITY_IMAGES = 256


def export(run: Path, target: str | None = None, precision: str = "default") -> ExportResult:
    """Writes `artifacts/model-<precision><suffix>` of a finished run's model and compares it with the model.

    target, precision: those of the run unless given. Raises InputError for an unfinished run, an unknown target
    or a precision that the target cannot do.
    """
    run = finished_run(run)
    own = load_recipe(run / RECIPE)
    wanted = replace(
        own,
        prune=replace(
            own.prune,
            target=target or own.prune.target,
            precision=own.prune.precision if precision == "default" and target is None else precision,
        ),
    )
    context = Context(wanted)
    with Run(run, own) as held:
        folder = run / "model"
        tools = context.tools
        path = run / "artifacts" / f"model-{tools.precision.value}{tools.target.suffix}"
        model = load(folder)
        artifact = export_model(context, model, path)
        write_sidecar(context, artifact, read_spec(folder)[1])
        held.add_artifact(path)
        images = context.holdout[0][:PARITY_IMAGES]
        exported = run_artifact(
            tools.target.name,
            path,
            (context.prepare(part) for part in images.split(32)),
            len(images),
            "compare the file with the model",
        )
    parity = compare(
        f"shrunk = exported ({tools.precision.value})", vit.logits(model, context.prepare(images)), exported
    )
    return ExportResult(run, tools.target.name, tools.precision.value, path, artifact.bytes, artifact.sha256, parity)
