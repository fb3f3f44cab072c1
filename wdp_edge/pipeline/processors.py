"""Integer files held against their model on processors of other kinds than this machine's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from wdp_edge.devices.emulated import Emulated, outputs_on
from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.errors import WdpError
from wdp_edge.parity import compare
from wdp_edge.pipeline.proof import tolerance_of, within
from wdp_edge.pipeline.sidecar import Sidecar, note_proofs
from wdp_edge.pipeline.source import Source
from wdp_edge.results import ArtifactFigures, ProcessorProof, UnjudgedFile
from wdp_edge.target import Artifact
from wdp_edge.task import get_task

_IMAGES = 32  # an emulator takes some fifty times as long


def elsewhere(
    source: Source, artifact: Artifact, sidecar: Sidecar, figures: ArtifactFigures, processors: Sequence[Emulated]
) -> tuple[ArtifactFigures, list[UnjudgedFile]]:
    """`figures` of an integer file with the proofs on these processors, which are noted beside it; verified where all
    are. And where it could not be run.
    """
    proofs, unjudged = [], []
    for processor in processors:
        try:
            proofs.append(proof_on(source, artifact, sidecar, processor))
        except WdpError as error:
            kind = artifact.precision.value
            unjudged.append(UnjudgedFile.of(error, artifact.path, artifact.target, kind, processor.name))
    known = note_proofs(artifact.path, proofs)
    verified = figures.verified and all(proof.verified for proof in proofs)
    return replace(figures, verified=verified, proven_on=known), unjudged


def proof_on(source: Source, artifact: Artifact, sidecar: Sidecar, processor: Emulated) -> ProcessorProof:
    """The file on an emulated processor, against the model and against itself on this machine.

    Raises as `outputs_on` does.
    """
    reference, path = source.reference, artifact.path
    count = min(_IMAGES, len(reference.images))
    images = list(reference.inputs(sidecar.pixels, count))
    there = outputs_on(processor, artifact.target, path, torch.cat(images))
    here = run_artifact(artifact.target, path, images, count, f"{path.name} here", processes=1).flatten(1)
    agreement = get_task(reference.task).agreement
    outputs = reference.outputs[:count]
    parity = compare("file = file elsewhere", outputs, there.reshape(outputs.shape), agreement)
    parity = replace(parity, simulated_error=source.simulated(artifact.target, artifact.precision))
    return ProcessorProof(
        processor=processor.kind,
        verified=within(parity, tolerance_of(source.recipe.verify, artifact.precision)),
        images=count,
        emulator=f"{processor.emulator} -cpu {processor.cpu}",
        difference=float((here - there).abs().max() / here.abs().max()),
    )
