"""constraints.txt: one exact version of everything that pyproject.toml asks for, within its bounds."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = [
    line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
]


def pinned() -> dict[str, str]:
    """Canonical package name -> exact version."""
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in LINES)}


def test_every_line_pins_one_package_exactly() -> None:
    assert len(pinned()) == len(LINES)
    assert all(Requirement(line).marker is None for line in LINES)


def test_every_dependency_has_a_version_within_its_bounds() -> None:
    extras = PROJECT["optional-dependencies"].values()
    asked = [Requirement(text) for text in [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]]
    versions = pinned()
    outside = [
        str(r)
        for r in asked
        if r.name not in ("wdp-edge", "setuptools")  # itself, and what comes with the environment
        and not r.specifier.contains(versions.get(canonicalize_name(r.name), ""), prereleases=True)
    ]
    assert not outside
