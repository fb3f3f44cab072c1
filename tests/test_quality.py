"""ruff and mypy find nothing to say about the project."""

import importlib.util
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(tool: str, *words: object, cwd: Path = ROOT, env: Mapping[str, str] = {}) -> None:
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed: pip install -e '.[dev]'")
    command = [sys.executable, "-m", tool, *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def installed_layout(folder: Path) -> None:
    """Links that put every package where an installation puts it: a type checker reads folders, not pyproject."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    mapped = {name: ROOT / path for name, path in setuptools["package-dir"].items() if "." in name}
    package = folder / "wdp_edge"
    package.mkdir(parents=True, exist_ok=True)
    wanted = {path.name: path for path in (ROOT / "wdp_edge").iterdir() if path.name != "__pycache__"}
    wanted |= {name.partition(".")[2]: path for name, path in mapped.items()}
    for link in package.iterdir():
        if link.name not in wanted:
            link.unlink()
    for name, path in wanted.items():
        if not (package / name).is_symlink():
            (package / name).symlink_to(path)
    if not (folder / "tests").is_symlink():
        (folder / "tests").symlink_to(ROOT / "tests")


def test_ruff_check() -> None:
    run("ruff", "check", ".")


def test_ruff_format() -> None:
    run("ruff", "format", "--check", ".")


def test_mypy() -> None:
    cache = ROOT / ".mypy_cache"
    layout = cache / "layout"
    installed_layout(layout)
    words = ("--config-file", ROOT / "pyproject.toml", "--cache-dir", cache)
    run("mypy", *words, "-p", "wdp_edge", cwd=layout)
    run("mypy", *words, ROOT / "benchmarks", cwd=layout)
    # Tests import what is in tests/support and benchmarks by its own name, as pytest finds it.
    support = ROOT / "tests" / "support"
    tests = [path for path in sorted((layout / "tests").rglob("*.py")) if path.resolve().parent != support]
    there = {"MYPYPATH": f"{support}:{ROOT / 'benchmarks'}"}
    run("mypy", *words, "--explicit-package-bases", *tests, cwd=layout, env=there)
