"""Integer files held against their model on processors of other kinds than this machine's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from wdp_edge.devices.emulated import Emulated, onnx_outputs
from wdp_edge.parity import compare
from wdp_edge.pipeline.proof import tolerance_of, within
from wdp_edge.pipeline.sidecar import Sidecar, note_proofs
from wdp_edge.pipeline.source import Source
from wdp_edge.results import ArtifactFigures, ProcessorProof
from wdp_edge.target import INTEGER, Artifact
from wdp_edge.task import get_task

_TARGET = "onnx"
_IMAGES = 32  # an emulator takes some fifty times as long


def can_be_emulated(artifact: Artifact) -> bool:
    """Whether the file's layers multiply integers and its runtime runs under an emulator without torch."""
    return artifact.target == _TARGET and artifact.precision in INTEGER


def elsewhere(
    source: Source, artifact: Artifact, sidecar: Sidecar, figures: ArtifactFigures, processors: Sequence[Emulated]
) -> ArtifactFigures:
    """`figures` with the proofs on these processors, which are noted beside the file; verified where all are.

    Raises SetupError when the runtime fails on one of them.
    """
    proofs = [proof_on(source, artifact, sidecar, processor) for processor in processors]
    known = note_proofs(artifact.path, proofs)
    verified = figures.verified and all(proof.verified for proof in proofs)
    return replace(figures, verified=verified, proven_on=known)


def proof_on(source: Source, artifact: Artifact, sidecar: Sidecar, processor: Emulated) -> ProcessorProof:
    """The file on an emulated processor, against the model and against itself on this machine."""
    reference = source.reference
    count = min(_IMAGES, len(reference.images))
    images = torch.cat(list(reference.inputs(sidecar.pixels, count)))
    here, there = (onnx_outputs(artifact.path, images, where) for where in (None, processor))
    agreement = get_task(reference.task).agreement
    parity = compare("file = file elsewhere", reference.outputs[:count], there, agreement)
    parity = replace(parity, simulated_error=source.simulated(artifact.target, artifact.precision))
    return ProcessorProof(
        processor=processor.kind,
        verified=within(parity, tolerance_of(source.recipe.verify, artifact.precision)),
        images=count,
        emulator=f"{processor.emulator} -cpu {processor.cpu}",
        difference=float((here - there).abs().max() / here.abs().max()),
    )
