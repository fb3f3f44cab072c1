"""models/recognise/beside.py: what is read from the files that libraries write beside weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wdp_edge.models.recognise.beside import beside
from wdp_edge.models.recognise.traits import Traits

CFG = {"mean": [0.5] * 3, "crop_pct": 0.9, "input_size": [3, 384, 384]}


def read(folder: Path, **files: dict[str, Any]) -> Any:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return beside(folder / "model.safetensors")


@pytest.mark.parametrize("legacy", [False, True])
def test_what_timm_writes(legacy: bool, tmp_path: Path) -> None:
    config = {"architecture": "vit_tiny_patch16_224", **(CFG if legacy else {"pretrained_cfg": CFG})}
    labels = {"labels": ["b", "a"]} if legacy else {"label_names": {"1": "a", "0": "b"}}
    found = read(tmp_path, config=config | labels)
    assert (found.name, found.classes, found.traits.image_size) == ("vit_tiny_patch16_224", ("b", "a"), 384)
    assert found.preprocess == {"mean": [0.5] * 3, "crop_pct": 0.9} and found.files == ("config.json",)


def test_what_transformers_writes(tmp_path: Path) -> None:
    vision = {"hidden_act": "gelu_pytorch_tanh", "image_size": [224, 224], "num_attention_heads": 6}
    found = read(tmp_path, config={"vision_config": vision, "hidden_size": 512}, preprocessor_config={"size": 224})
    assert found.traits == Traits(heads=6, activation="gelu_tanh", image_size=224)
    assert found.files == ("config.json", "preprocessor_config.json")
    # The activation of a gated MLP is not what this word says.
    gated = {"model_type": "dinov2", "hidden_act": "gelu", "use_swiglu_ffn": True}
    assert read(tmp_path, config=gated).traits.activation == ""


def test_what_open_clip_writes(tmp_path: Path) -> None:
    model = {"quick_gelu": True, "vision_cfg": {"width": 1024, "layers": 24, "patch_size": 14, "image_size": 336}}
    found = read(tmp_path, open_clip_config={"model_cfg": model, "preprocess_cfg": {"mean": [0.5] * 3}})
    expected = Traits(heads=16, activation="quick_gelu", image_size=336, patch=14, width=1024, depth=24)
    assert (found.traits, found.preprocess["mean"], found.config) == (expected, [0.5] * 3, "open_clip_config.json")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"0": "dog", "1": " cat"}, ("dog", "cat")),
        ({"0": "LABEL_0", "1": "LABEL_1"}, ()),
        ({"0": "dog", "2": "cat"}, ()),
        ({"0": "dog", "1": "dog"}, ()),
        ({"0": "dog\ncat", "1": "cat"}, ()),
        ({"0": "dog", "1": 5}, ()),
        (5, ()),
    ],
)
def test_names_of_classes(labels: object, expected: tuple[str, ...], tmp_path: Path) -> None:
    assert read(tmp_path, config={"model_type": "vit", "id2label": labels}).classes == expected


@pytest.mark.parametrize("content", ["{", "[]", '{"num_attention_heads": "many"}', '{"vision_config": 3}'])
def test_somebody_elses_files_tell_nothing(content: str, tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json", "open_clip_config.json"):
        (tmp_path / name).write_text(content)
    found = beside(tmp_path)
    assert (found.name, found.traits, dict(found.preprocess)) == ("", Traits(), {})
