"""`model.pte.json` beside `model.pte`: how to feed the file, and what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge.data.preprocess import Preprocessing, normalise
from wdp_edge.errors import InputError
from wdp_edge.io.files import write_json
from wdp_edge.io.plain import read_as
from wdp_edge.models.structure import Structure
from wdp_edge.protocols.target import Artifact
from wdp_edge.runs.results import ProcessorProof

if TYPE_CHECKING:
    from torch import Tensor

SIDECAR_VERSION = 1


@dataclass(frozen=True)
class Sidecar:
    """Everything needed to run and judge an artifact without its run.

    classes: names in the order of the logits; none where the file outputs embeddings.
    pixels: the file takes uint8 pixels, because normalisation is folded into it. proven_on: kinds of processor on which
    an integer file was compared with its model, one entry each; [] for other precisions.
    """

    target: str
    precision: str
    sha256: str
    preprocessing: Preprocessing
    classes: list[str]
    structure: Structure
    val: Path
    pixels: bool = False
    task: str = "classify"
    proven_on: list[ProcessorProof] = field(default_factory=list)
    version: int = SIDECAR_VERSION

    def input_of(self, images: Tensor) -> Tensor:
        """images: [n, 3, H, W] uint8 -> what the file takes: the same, or normalised float32."""
        return images if self.pixels else normalise(images, self.preprocessing)


def sidecar_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


@dataclass(frozen=True)
class InputFacts:
    """What all files of a model share: how they are fed, and the images that they are judged on."""

    preprocessing: Preprocessing
    classes: tuple[str, ...]
    val: Path
    task: str


def write_sidecar(artifact: Artifact, facts: InputFacts, structure: Structure, pixels: bool = False) -> None:
    """Writes the facts about an artifact of a model of this structure beside it."""
    write_json(
        sidecar_path(artifact.path),
        Sidecar(
            target=artifact.target,
            precision=artifact.precision,
            sha256=artifact.sha256,
            preprocessing=facts.preprocessing,
            classes=list(facts.classes),
            structure=structure,
            val=facts.val,
            pixels=pixels,
            task=facts.task,
        ),
    )


def note_proofs(path: Path, proofs: Sequence[ProcessorProof]) -> list[ProcessorProof]:
    """Writes where an artifact was proven beside it, in place of what was known of these processors before: all of it.

    Raises InputError as `read_sidecar` does.
    """
    sidecar = read_sidecar(path)
    known = {(p.processor, p.emulator): p for p in (*sidecar.proven_on, *proofs)}
    if list(known.values()) != sidecar.proven_on:
        write_json(sidecar_path(path), replace(sidecar, proven_on=list(known.values())))
    return list(known.values())


def read_facts(path: Path) -> Sidecar:
    """The facts beside an artifact, which is not looked at itself. Raises InputError where there are none."""
    beside = sidecar_path(path)
    if not beside.exists():
        raise InputError(
            f"{path} has no {beside.name} beside it, so its preprocessing is unknown.",
            "Name a file that `wdp-edge prune` or `wdp-edge export` wrote, and keep the two together.",
        )
    return read_as(beside, Sidecar)


def read_sidecar(path: Path) -> Sidecar:
    """The facts beside an artifact.

    Raises InputError when the artifact or its sidecar is missing, or the file has changed since.
    """
    from wdp_edge.io.files import sha256

    if not path.exists():
        raise InputError(f"{path} does not exist.", "Name an artifact, such as runs/…/artifacts/model.pte.")
    sidecar = read_facts(path)
    if sha256(path) != sidecar.sha256:
        raise InputError(
            f"{path} is not the file that {sidecar_path(path).name} describes: it was changed or cut short.",
            "Export it again with: wdp-edge export",
        )
    return sidecar
