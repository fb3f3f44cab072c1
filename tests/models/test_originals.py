"""models/originals.py: the original of a Hugging Face folder against models that are and are not it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from originals import BOTH, Original, drawn, images

from wdp_edge.errors import InputError, SetupError
from wdp_edge.models.files import load_dense
from wdp_edge.models.originals import compare, folder_of_transformers, load_original
from wdp_edge.protocols.task import Output

SPEC = Original(lambda: None, lambda m, x: m(x), "vit_base_patch16_224").spec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hf")
    drawn(hf.ViTModel(hf.ViTConfig(**BOTH))).save_pretrained(path)  # type: ignore[operator]
    return path


def test_what_differs_is_named(folder: Path) -> None:
    original, ours = load_original(folder), load_dense(SPEC, folder)
    found = compare(original, ours, images(), Output.EMBEDDING)
    assert found.same and (found.output, found.place, found.pixels) == ("the class token", "", 32)
    unit = load_dense(replace(SPEC, output=Output.UNIT), folder)
    assert compare(original, unit, images(), Output.UNIT).same
    ours.blocks[1].attn.num_heads, ours.blocks[1].attn.head_dim = 2, 16  # type: ignore[union-attr,index]
    wrong = compare(original, ours, images(), Output.EMBEDDING)
    assert not wrong.same and wrong.place == "block 2 of 2"
    ours.pos_embed.data.add_(1)  # type: ignore[operator,union-attr]
    assert "positions" in compare(original, ours, images(), Output.EMBEDDING).place
    with pytest.raises(InputError, match="no output of 5 values"):
        compare(original, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 5)), images(), Output.LOGITS)


def test_a_head_that_is_not_in_the_folder_is_nothing_to_compare_with(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["ViTForImageClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="at random"):
        load_original(tmp_path)


def test_code_of_a_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    code = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(code))
    (tmp_path / "mine.py").write_text("raise SystemExit('ran')")
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="cannot load"):
        load_original(tmp_path)


@pytest.mark.parametrize("config", [None, {"architecture": "vit_tiny_patch16_224"}, {"model_type": 5}])
def test_what_is_no_folder_of_transformers(config: dict[str, Any] | None, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="is no Hugging Face folder"):
        folder_of_transformers(tmp_path / "model.safetensors")


def test_transformers_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SetupError, match="needs transformers") as caught:
        folder_of_transformers(folder)
    assert "wdp-edge[transformers]" in caught.value.hint
