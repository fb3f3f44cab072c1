"""Which run a command means when none is named."""

import os
from pathlib import Path

import pytest

from wdp_edge.errors import InputError
from wdp_edge.project import find_run
from wdp_edge.stages import MANIFEST


def make_run(path: Path, age: float) -> Path:
    path.mkdir(parents=True)
    (path / MANIFEST).write_text("{}")
    os.utime(path / MANIFEST, (1e9 - age, 1e9 - age))
    return path


def test_the_latest_run_of_the_project(tmp_path: Path) -> None:
    make_run(tmp_path / "runs/a", age=5)
    latest = make_run(tmp_path / "runs/b", age=1)
    make_run(tmp_path / "runs/c", age=9)
    assert find_run(tmp_path, None) == latest
    assert find_run(tmp_path, tmp_path / "runs/a") == tmp_path / "runs/a"


def test_the_run_that_the_recipe_names(tmp_path: Path) -> None:
    make_run(tmp_path / "runs/a", age=1)
    mine = make_run(tmp_path / "mine", age=9)
    (tmp_path / "wdp-edge.toml").write_text("[prune]\nout = 'mine'\n")
    assert find_run(tmp_path, None) == mine


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no run"):
        find_run(tmp_path, None)


def test_no_run_here_is_said_without_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"There is no run in this folder\. .*--dense"):
        find_run(Path(), None)
