"""A command line in this process, and a tiny project: a real ViT of 16 px and real PNG files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fake_verbs import Fake, fake_verbs
from tiny_project import ARGS, CLASSES, MODEL, Cli, Said, write_images

from wdp_edge.cli import main


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """cli("prune", "--json") runs `wdp-edge prune --json` in this process."""

    def run(*words: object) -> Said:
        capfd.readouterr()
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return run


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with dense.safetensors and data/{train,val}; not to be changed."""
    import timm
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("template")
    torch.manual_seed(0)
    model = timm.create_model(MODEL, pretrained=False, num_classes=len(CLASSES), **ARGS)
    save_file(model.state_dict(), folder / "dense.safetensors")
    write_images(folder / "data/train", 16)
    write_images(folder / "data/val", 4)
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of the template as the working directory; there is no wdp-edge.toml yet."""
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    """See `fake_verbs`."""
    return fake_verbs(monkeypatch, tmp_path)
