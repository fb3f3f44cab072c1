"""What is inside an artifact."""

from __future__ import annotations

from pathlib import Path

from wdp_edge.about import read_about
from wdp_edge.errors import InputError
from wdp_edge.files import size_of
from wdp_edge.pipeline.sidecar import read_sidecar, sidecar_path
from wdp_edge.results import InspectResult
from wdp_edge.target import get_target, target_class, target_names


def inspect(path: Path, target: str | None = None) -> InspectResult:
    """Operators, weights, inputs, outputs and origin of an artifact, wherever it was made.

    target: needed where the file's name does not tell.
    Raises InputError when the file is missing, damaged or of no target that is known.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist.", "Name an artifact, such as runs/…/artifacts/model.pte.")
    adapter = get_target(target or target_by_name(path))
    contents = adapter.inspect(path)
    proven = read_sidecar(path).proven_on if sidecar_path(path).exists() else []
    return InspectResult(path, adapter.name, size_of(path), contents, read_about(contents.metadata), proven)


def target_by_name(path: Path) -> str:
    """The target whose suffix ends the file's name; the longest one where several do."""
    fitting = [t for t in map(known_suffix, target_names()) if path.name.endswith(t[0])]
    if not fitting:
        suffixes = sorted({known_suffix(name)[0] for name in target_names()})
        raise InputError(f"No target makes files like {path.name}.", f"Names end with: {', '.join(suffixes)}.")
    return max(fitting, key=lambda t: len(t[0]))[1]


def known_suffix(name: str) -> tuple[str, str]:
    return target_class(name).suffix, name
