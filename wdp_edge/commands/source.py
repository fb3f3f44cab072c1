"""The model of a run that artifacts are made from: pruned, or the dense one as it came."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from safetensors.torch import save as serialised
from torch import Tensor, nn

from wdp_edge.artifacts.export_job import Exporter, ExportJob
from wdp_edge.artifacts.proof import (
    BISECT_IMAGES,
    Reference,
    close,
    first_broken,
    prove,
    simulated_error,
    tolerance_of,
)
from wdp_edge.artifacts.sidecar import note_proofs, write_sidecar
from wdp_edge.calibration.fake_quant import Scheme
from wdp_edge.calibration.simulation import scheme_of
from wdp_edge.config.budgets import with_budget
from wdp_edge.config.recipe import Recipe
from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.devices.processor import this_processor
from wdp_edge.errors import InputError
from wdp_edge.io.files import write_bytes
from wdp_edge.models import vit
from wdp_edge.models.files import load, read_spec, save
from wdp_edge.protocols.target import Artifact, get_target, precision_of
from wdp_edge.pruning.data import Data
from wdp_edge.pruning.inputs import Inputs
from wdp_edge.pruning.toolkit import STATIC_CALIBRATION
from wdp_edge.runs.look import knows_by_heart
from wdp_edge.runs.places import check_present, has_moved, read_result, run_recipe
from wdp_edge.runs.results import ArtifactFigures, Parity, ProcessorProof
from wdp_edge.runs.run import Run, check_checkpoint, check_images, checkpoint_facts, default_path, now
from wdp_edge.runs.stages import MANIFEST, RESULT
from wdp_edge.runs.sweeps import single_recipes


@dataclass(frozen=True)
class Source:
    """A run with a finished model. inputs: what its recipe names. simulations: made once for all files."""

    run: Path
    inputs: Inputs
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
        source = cls(run, Inputs.of(recipe))
        check_checkpoint(recipe, Run(run, recipe))
        if has_moved(recipe, run):
            check_images(source.data.fingerprints, Run(run, recipe))
        if "finished" not in Run(run, recipe).manifest():
            raise InputError(f"The run in {run} is not finished.", "Give its `wdp-edge prune` command again.")
        return source

    @property
    def recipe(self) -> Recipe:
        return self.inputs.recipe

    @property
    def data(self) -> Data:
        return self.inputs.data

    @property
    def folder(self) -> Path:
        return self.run / "model"

    @cached_property
    def model(self) -> nn.Module:
        return load(self.folder)

    @property
    def images(self) -> tuple[Tensor, Tensor]:
        """What the model's files are proven on; see `Data.proof_images`."""
        return self.data.proof_images

    @cached_property
    def reference(self) -> Reference:
        facts = self.data.task.facts
        reference = Reference.of(self.model, *self.images, self.data.preprocessing, facts.name)
        return replace(reference, dense=self.dense_outputs) if facts.relative else reference

    @cached_property
    def dense_outputs(self) -> Tensor:
        """The dense model's outputs for `images`: [n, K] float32, in PyTorch."""
        return vit.logits(self.inputs.model.module, self.data.prepare(self.images[0]))

    def doubts(self) -> list[str]:
        """What speaks against the dense model: the run's own word where it has one."""
        if (self.run / RESULT).exists():
            return read_result(self.run).warnings
        return self.data.doubts(self.reference.outputs, self.images[1])

    @property
    def memorised(self) -> bool:
        """Whether the dense model may know `images` by heart: the run's own word where it has one."""
        if (self.run / RESULT).exists():
            look = read_result(self.run).first_look
            return bool(look and look.memorised)
        return knows_by_heart(
            self.data.task.facts, self.reference.metric(self.reference.outputs), len(self.reference.images)
        )

    def calibration_file(self) -> Path:
        """Calibration images on disk, for the processes that export; not those that a killed command left."""
        path = self.run / "scratch" / "calibration.safetensors"
        if not (self._written and path.exists()):
            write_bytes(path, serialised({"images": self.static_calibration.contiguous()}))
            self._written.append(path)
        return path

    def job(self, path: Path, precision: str, pixels: bool = False) -> ExportJob:
        """The export of the model to `path`."""
        return ExportJob(
            path=path,
            precision=precision,
            preprocessing=self.data.preprocessing,
            calibration=self.calibration_file(),
            metadata=self.inputs.texts(read_spec(self.folder)[1], self.run, pixels),
            pixels=pixels,
        )

    def record(self, artifact: Artifact, pixels: bool) -> None:
        """Facts beside the artifact."""
        write_sidecar(artifact, self.data.input_facts, read_spec(self.folder)[1], pixels)

    def judge(self, artifact: Artifact, pixels: bool) -> ArtifactFigures:
        """The artifact against the model. What computed it is noted beside the file, where files differ by that."""
        precision = precision_of(artifact.target, artifact.precision)
        tolerance = tolerance_of(self.recipe.verify, precision)
        simulated = self.simulated(artifact.target, artifact.precision)
        figures = prove(artifact, self.reference, tolerance, pixels, simulated)
        proofs = list(figures.proven_on)
        if precision.integer:
            proofs.append(ProcessorProof(this_processor(), figures.verified, figures.parity.images))
        return replace(figures, proven_on=note_proofs(artifact.path, proofs)) if proofs else figures

    def simulated(self, target: str, precision: str) -> float | None:
        """`simulated_error` of the target's scheme for this precision; None where there is none to simulate."""
        scheme = scheme_of(get_target(target), precision)
        if scheme is None:
            return None
        with self.simulating:
            if scheme not in self.simulations:
                images, calibration = map(self.data.prepare, (self.images[0], self.static_calibration))
                self.simulations[scheme] = simulated_error(self.model, scheme, images, calibration)
            return self.simulations[scheme]

    @property
    def static_calibration(self) -> Tensor:
        """Training images that files with calibrated ranges see: [n, 3, H, W] uint8."""
        return self.data.calibration[:STATIC_CALIBRATION]

    def where_it_broke(self, exporter: Exporter, target: str, job: ExportJob) -> str:
        """The first part of the model that this target and precision get wrong."""
        path = self.run / "scratch" / f"prefix-{target}-{job.precision}{get_target(target).suffix}"

        def run_prefix(sublayers: int) -> Tensor:
            part = exporter.export(replace(job, path=path, sublayers=sublayers))
            inputs = self.reference.inputs(job.pixels, BISECT_IMAGES)
            count = min(BISECT_IMAGES, len(self.reference.images))
            return run_artifact(part.target, path, inputs, count, "look for the broken layer", processes=1)

        tolerance = tolerance_of(self.recipe.verify, precision_of(target, job.precision))
        simulated = self.simulated(target, job.precision)

        def sound(parity: Parity) -> bool:
            return close(replace(parity, simulated_error=simulated), tolerance)

        return first_broken(self.model, self.reference, sound, run_prefix)


def dense_run(recipe: Recipe) -> Path:
    """A run whose model is the recipe's trained one, not pruned: prune.out, or runs/<model>-dense-<digest>."""
    first = single_recipes(replace(recipe, prune=replace(with_budget(recipe.prune, ""), out="")))[0]
    plain = replace(first, prune=replace(first.prune, out=recipe.prune.out))
    path = Path(recipe.prune.out) if recipe.prune.out else default_path(plain, "dense")
    inputs = Inputs.of(plain)
    with Run(path, plain) as run:
        check_checkpoint(plain, run)
        if has_moved(plain, path):
            check_images(inputs.data.fingerprints, run)
        if "finished" not in run.manifest():
            save(inputs.model.module, inputs.model.spec, path / "model")
            facts = checkpoint_facts(plain)
            run.update_manifest(finished=now(), data=inputs.data.fingerprints, **facts)
        run.note_places()
    return path
