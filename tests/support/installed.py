"""Packages of others, as pip leaves them: found as a user's would be, also by worker processes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOY = Path(__file__).parents[1] / "toy_target"


def install(site: Path, module: str, source: str, group: str, entry: str) -> None:
    """A package of one module in the folder `site`, with one entry point."""
    (site / f"{module}.py").write_text(source)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")


def installed_toy(folder: Path) -> Path:
    """The folder into which pip has installed the toy target's package."""
    source, site = folder / "source", folder / "site"
    shutil.copytree(TOY, source)
    words = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(site), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *words], check=True)
    return site


def use(site: Path, patch: pytest.MonkeyPatch) -> None:
    """Lets this process and those that it starts find what is in the folder `site`."""
    site.mkdir(exist_ok=True)
    patch.syspath_prepend(str(site))
    patch.setenv("PYTHONPATH", str(site))
