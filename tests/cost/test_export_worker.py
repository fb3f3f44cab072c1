"""The process that exports models with random weights for timing, its pipe in memory."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from tiny_vit import TINY

from wdp_edge.cost.export_worker import handle, randomise
from wdp_edge.models.spec import create
from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.protocols.target import get_target
from wdp_edge.workers.messages import read_message, write_message

STRUCTURES = (Structure(32, (BlockWidths(2, 8, 40),)), Structure(32, (BlockWidths(0, 0, 16), BlockWidths(1, 4, 0))))


def test_one_structure_after_the_other_is_exported_and_answered(tmp_path: Path) -> None:
    requests, replies = io.BytesIO(), io.BytesIO()
    paths = [tmp_path / f"{number}.onnx" for number in range(len(STRUCTURES))]
    for structure, path in zip(STRUCTURES, paths, strict=True):
        write_message(requests, {"structure": structure.to_json(), "path": str(path)})
    requests.seek(0)
    threads = torch.get_num_threads()
    try:
        handle({"spec": TINY.to_json(), "target": "onnx", "precision": "fp32"}, requests, replies)
    finally:
        torch.set_num_threads(threads)
    replies.seek(0)
    assert [read_message(replies) for _ in paths] == [({"done": str(path)}, b"") for path in paths]
    target = get_target("onnx")
    kinds = [{o.kind: o.count for o in target.inspect(path).operators} for path in paths]
    assert [k["Softmax"] for k in kinds] == [1, 1] and [k.get("Gelu", 0) for k in kinds] == [1, 1]
    for path in paths:
        outputs = target.load(path, 1)(torch.randn(1, 3, 16, 16))
        assert outputs.shape == (1, TINY.num_classes) and torch.isfinite(outputs).all()


def test_no_two_tensors_are_equal() -> None:
    """A file would hold them once, and be smaller and faster than the model it stands for."""
    model, again = create(TINY), create(TINY)
    randomise(model), randomise(again)
    tensors = [tuple(p.flatten().tolist()) for p in model.parameters()]
    assert len(set(tensors)) == len(tensors) and all(any(t) for t in tensors)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
