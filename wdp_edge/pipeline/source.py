"""The model of a run that artifacts are made from: pruned, or the dense one as it came."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from safetensors.torch import save as serialised
from torch import Tensor, nn

from wdp_edge.about import Origin, metadata
from wdp_edge.calibration.fake_quant import Scheme
from wdp_edge.calibration.simulation import scheme_of
from wdp_edge.data.preprocess import normalise
from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.devices.processor import this_processor
from wdp_edge.errors import InputError
from wdp_edge.files import write_bytes
from wdp_edge.models import vit
from wdp_edge.models.files import load, read_spec, save
from wdp_edge.pipeline.context import Context
from wdp_edge.pipeline.export_job import Exporter, ExportJob
from wdp_edge.pipeline.proof import (
    BISECT_IMAGES,
    Reference,
    close,
    first_broken,
    prove,
    simulated_error,
    tolerance_of,
)
from wdp_edge.pipeline.sidecar import note_proofs, write_sidecar
from wdp_edge.pipeline.timing import STATIC_CALIBRATION
from wdp_edge.places import check_present, has_moved, project_of, read_result, run_recipe
from wdp_edge.recipe import Recipe
from wdp_edge.results import ArtifactFigures, Parity, ProcessorProof
from wdp_edge.run import Run, check_checkpoint, check_images, checkpoint_facts, default_path, now, recipe_digest
from wdp_edge.stages import MANIFEST, RESULT
from wdp_edge.target import INTEGER, Artifact, Precision, get_target


@dataclass(frozen=True)
class Source:
    """A run with a finished model. context: its recipe's data and dense model. simulations: made once for all files."""

    run: Path
    recipe: Recipe
    context: Context
    simulations: dict[Scheme, float] = field(default_factory=dict, compare=False)
    simulating: threading.Lock = field(default_factory=threading.Lock, compare=False)
    _written: list[Path] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, run: Path) -> Source:
        """Raises InputError when the folder holds no finished model."""
        if not (run / MANIFEST).exists():
            raise InputError(f"{run} is not a run folder.", "Name a folder that `wdp-edge prune` or `export` made.")
        recipe = run_recipe(run)
        check_present(recipe, run)
        source = cls(run, recipe, Context(recipe))
        check_checkpoint(recipe, Run(run, recipe))
        if has_moved(recipe, run):
            check_images(source.context.fingerprints, Run(run, recipe))
        if "finished" not in Run(run, recipe).manifest():
            raise InputError(f"The run in {run} is not finished.", "Give its `wdp-edge prune` command again.")
        return source

    @property
    def folder(self) -> Path:
        return self.run / "model"

    @cached_property
    def model(self) -> nn.Module:
        return load(self.folder)

    @property
    def images(self) -> tuple[Tensor, Tensor]:
        """What the model's files are proven on; see `Context.proof_images`."""
        return self.context.proof_images

    @cached_property
    def reference(self) -> Reference:
        context, facts = self.context, self.context.task.facts
        reference = Reference.of(self.model, *self.images, context.preprocessing, facts.name)
        return replace(reference, dense=self.dense_outputs) if facts.relative else reference

    @cached_property
    def dense_outputs(self) -> Tensor:
        """The dense model's outputs for `images`: [n, K] float32, in PyTorch."""
        return vit.logits(self.context.dense, normalise(self.images[0], self.context.preprocessing))

    def doubts(self) -> list[str]:
        """What speaks against the dense model: the run's own word where it has one."""
        if (self.run / RESULT).exists():
            return read_result(self.run).warnings
        return [] if self.context.task.facts.relative else self.context.doubts(self.reference.outputs, self.images[1])

    def calibration_file(self) -> Path:
        """Calibration images on disk, for the processes that export; not those that a killed command left."""
        path = self.run / "scratch" / "calibration.safetensors"
        if not (self._written and path.exists()):
            write_bytes(path, serialised({"images": self.static_calibration.contiguous()}))
            self._written.append(path)
        return path

    def job(self, path: Path, precision: Precision, pixels: bool = False) -> ExportJob:
        """The export of the model to `path`."""
        spec, structure = read_spec(self.folder)
        origin = Origin(spec.name, structure, recipe_digest(self.recipe, project_of(self.run)), self.recipe.model.task)
        return ExportJob(
            path=path,
            precision=precision,
            preprocessing=self.context.preprocessing,
            calibration=self.calibration_file(),
            metadata=metadata(origin, self.context.preprocessing, self.context.class_names, pixels),
            pixels=pixels,
        )

    def record(self, artifact: Artifact, pixels: bool) -> None:
        """Facts beside the artifact."""
        write_sidecar(self.context, artifact, read_spec(self.folder)[1], pixels)

    def judge(self, artifact: Artifact, pixels: bool) -> ArtifactFigures:
        """The artifact against the model. Of an integer file, the processor that did it is noted beside the file."""
        tolerance = tolerance_of(self.recipe.verify, artifact.precision)
        simulated = self.simulated(artifact.target, artifact.precision)
        figures = prove(artifact, self.reference, tolerance, pixels, simulated)
        if artifact.precision not in INTEGER:
            return figures
        proof = ProcessorProof(this_processor(), figures.verified, figures.parity.images)
        return replace(figures, proven_on=note_proofs(artifact.path, [proof]))

    def simulated(self, target: str, precision: Precision) -> float | None:
        """`simulated_error` of the target's scheme for this precision; None where there is none to simulate."""
        scheme = scheme_of(get_target(target), precision)
        if scheme is None:
            return None
        with self.simulating:
            if scheme not in self.simulations:
                preprocessing = self.context.preprocessing
                images, calibration = (normalise(x, preprocessing) for x in (self.images[0], self.static_calibration))
                self.simulations[scheme] = simulated_error(self.model, scheme, images, calibration)
            return self.simulations[scheme]

    @property
    def static_calibration(self) -> Tensor:
        """Training images that files with calibrated ranges see: [n, 3, H, W] uint8."""
        return self.context.calibration[:STATIC_CALIBRATION]

    def where_it_broke(self, exporter: Exporter, target: str, job: ExportJob) -> str:
        """The first part of the model that this target and precision get wrong."""
        path = self.run / "scratch" / f"prefix-{target}-{job.precision.value}{get_target(target).suffix}"

        def run_prefix(sublayers: int) -> Tensor:
            part = exporter.export(replace(job, path=path, sublayers=sublayers))
            inputs = self.reference.inputs(job.pixels, BISECT_IMAGES)
            count = min(BISECT_IMAGES, len(self.reference.images))
            return run_artifact(part.target, path, inputs, count, "look for the broken layer", processes=1)

        tolerance = tolerance_of(self.recipe.verify, job.precision)
        simulated = self.simulated(target, job.precision)

        def sound(parity: Parity) -> bool:
            return close(replace(parity, simulated_error=simulated), tolerance)

        return first_broken(self.model, self.reference, sound, run_prefix)


def dense_run(recipe: Recipe) -> Path:
    """A run whose model is the recipe's trained one, not pruned: prune.out, or runs/<model>-dense-<digest>."""
    plain = replace(recipe, prune=replace(recipe.prune, latency_budget=""))
    path = Path(recipe.prune.out) if recipe.prune.out else default_path(plain, "dense")
    context = Context(plain)
    with Run(path, plain) as run:
        check_checkpoint(plain, run)
        if has_moved(plain, path):
            check_images(context.fingerprints, run)
        if "finished" not in run.manifest():
            save(context.dense, context.tools.spec, path / "model")
            facts = checkpoint_facts(plain)
            run.update_manifest(finished=now(), data=context.fingerprints, **facts)
        run.note_places()
    return path
