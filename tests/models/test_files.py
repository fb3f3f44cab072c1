"""Saved models and dense checkpoints: what is written comes back, and what does not fit is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from full_disk import small_files
from safetensors.torch import save_file
from tiny_families import FORMS, made, spec_of

from wdp_edge.errors import InputError, SetupError
from wdp_edge.models.checkpoints import read_weights
from wdp_edge.models.files import load, load_dense, save
from wdp_edge.models.spec import ModelSpec
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.models.vit import structure_of
from wdp_edge.protocols.task import Output


@pytest.mark.parametrize(
    "kept",
    [
        Kept(((0, 3), (1,)), (tuple(range(9)), tuple(range(40)))),
        Kept(((), (1, 2)), ((1, 4), ())),
        Kept(((0, 3), ()), ((0,), (5,)), ((0, 2, 5), ())),
    ],
    ids=["widths", "without sub-layers", "narrow heads"],
)
def test_a_shrunk_model_comes_back_as_it_was(kept: Kept, tiny_model: Any, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    small = cut(tiny_model, kept)
    save(small, tiny_spec, tmp_path / "model")
    again = load(tmp_path / "model")
    assert structure_of(again) == structure_of(small)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(again(images), small(images))
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["model.safetensors", "structure.json"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_checkpoints_of_every_kind(suffix: str, tiny_model: Any, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    path = tmp_path / f"dense{suffix}"
    state = tiny_model.state_dict()
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"model": {f"module.{k}": v.half() for k, v in state.items()}, "epoch": 3}, path)
    model = load_dense(tiny_spec, path)
    assert all(v.dtype == torch.float32 for v in model.state_dict().values())
    assert torch.allclose(model.state_dict()["head.weight"], state["head.weight"], atol=1e-3)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="could run code"):
        read_weights(tmp_path / "evil.pt")
    assert not (tmp_path / "owned").exists()


def test_wrong_checkpoints_say_what_differs(tiny_model: Any, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    path = tmp_path / "dense.safetensors"
    save_file(tiny_model.state_dict(), path)
    with pytest.raises(InputError, match=r"has 4 classes.*Set num_classes"):
        load_dense(ModelSpec(tiny_spec.name, 7, tiny_spec.args), path)
    with pytest.raises(InputError, match="tensors differ"):
        load_dense(ModelSpec("vit_tiny_patch16_224", 4), path)
    with pytest.raises(InputError, match="does not exist"):
        load_dense(tiny_spec, tmp_path / "none.safetensors")


@pytest.mark.parametrize("form", ["distilled", "eva02", "swin"])
def test_saved_models_of_every_family_come_back(form: str, tmp_path: Path) -> None:
    model = made(form)
    blocks = structure_of(model).blocks[:2]
    small = cut(model, Kept(tuple((0,) for _ in blocks), tuple((1, 3, 5) for _ in blocks)))
    save(small, spec_of(form), tmp_path)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(load(tmp_path)(images), small.eval()(images))
    name, args = FORMS[form]
    with pytest.raises(InputError, match=r"has 5 classes.*Set num_classes"):
        save_file(model.state_dict(), tmp_path / "dense.safetensors")
        load_dense(ModelSpec(name, 7, args), tmp_path / "dense.safetensors")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("model", "args", "num_heads"), True),
        (("model", "args", "num_heads"), 1),
        (("model", "num_classes"), True),
        (("model", "head_channels"), False),
        (("model", "head_blocks"), [True]),
        (("structure", "embed_dim"), True),
        (("structure", "embed_dim"), 10_000),
        (("structure", "blocks", 0, "heads"), True),
        (("structure", "blocks", 0, "heads"), 99),
        (("structure", "blocks", 0, "head_dim"), 999),
        (("structure", "blocks", 0, "hidden"), 9_999),
    ],
)
def test_wrong_numbers_in_a_structure_file(
    tiny_model: Any, tiny_spec: ModelSpec, tmp_path: Path, place: tuple[Any, ...], value: Any
) -> None:
    """true passes for 1 in Python, and one head of a model with more leads outside its weights."""
    save(tiny_model, tiny_spec, tmp_path)
    file = tmp_path / "structure.json"
    data = inner = json.loads(file.read_text())
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    file.write_text(json.dumps(data))
    with pytest.raises(InputError):
        load(tmp_path)


def test_a_structure_of_more_blocks_than_the_model_has(tiny_model: Any, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    save(tiny_model, tiny_spec, tmp_path)
    file = tmp_path / "structure.json"
    data = json.loads(file.read_text())
    data["structure"]["blocks"] *= 2
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match="blocks of"):
        load(tmp_path)


@pytest.mark.parametrize("output", [Output.EMBEDDING, Output.UNIT])
def test_an_embedding_is_what_the_head_would_read(
    output: Output, tiny_model: Any, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    """From a classifier's checkpoint, whose head is left out; cut, saved and read again."""
    save_file(tiny_model.state_dict(), tmp_path / "dense.safetensors")
    spec = ModelSpec(tiny_spec.name, 0, tiny_spec.args, output)
    model = load_dense(spec, tmp_path / "dense.safetensors")
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        got, read = model(images), tiny_model.forward_head(tiny_model.forward_features(images), pre_logits=True)
    if output is Output.UNIT:
        read = torch.nn.functional.normalize(read, dim=-1)
    assert torch.allclose(got, read, atol=1e-6)
    small = cut(model, Kept(((0, 3), (1,)), (tuple(range(9)), tuple(range(40)))))
    save(small, spec, tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "model")(images), small(images))


def test_a_model_that_cannot_be_written(tmp_path: Path, tiny_model: Any, tiny_spec: ModelSpec) -> None:
    with small_files(), pytest.raises(SetupError, match=r"Cannot write .*model\.safetensors"):
        save(tiny_model, tiny_spec, tmp_path)
    assert not list(tmp_path.iterdir())
