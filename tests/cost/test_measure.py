"""wdp_edge/cost/measure.py: a table from real exports on the real machine, and its cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from wdp_edge.config.recipe import TableRecipe
from wdp_edge.cost import measure
from wdp_edge.cost.measure import Setting, cache_folder, digest, export_all, measure_table
from wdp_edge.errors import InputError
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.structure import Structure
from wdp_edge.models.vit import structure_of
from wdp_edge.protocols.device import Kind, TimingPlan, get_device
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import get_target

SPEC = ModelSpec(
    "vit_tiny_patch16_224", 4, {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
)
OPTIONS = TableRecipe(points=2, chain=1, rounds=3, runs=5)


def setting() -> Setting:
    return Setting(
        spec=SPEC,
        structure=structure_of(create(SPEC)),
        target=get_target("onnx"),
        precision=Precision.FP32,
        device=get_device("local"),
        plan=TimingPlan(warmup=1),
        options=OPTIONS,
    )


def test_a_table_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = setting()
    table = measure_table(s, tmp_path)
    assert [w for w, _ in table.attention] == [0.25, 1, 2]
    assert [w for w, _ in table.mlp] == [16, 128]
    assert table.kind is Kind.MEASURED and table.dense_ms > 0
    assert (table.key.embed_dim, table.key.head_dim, table.key.tokens) == (32, 16, 17)
    # Whole models are its anchors, so it must know the dense one; a wide margin, for noise of a busy machine.
    assert table.predict(s.structure) == pytest.approx(table.dense_ms, rel=0.3)

    def refuse(*args: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(measure, "export_all", refuse)
    assert measure_table(s, tmp_path) == table
    with pytest.raises(AssertionError, match="exported again"):
        measure_table(replace(s, precision=Precision.INT8_DYNAMIC), tmp_path)
    (cached,) = tmp_path.glob("*.json")
    cached.write_text("{}")
    with pytest.raises(AssertionError, match="exported again"):
        measure_table(s, tmp_path)


def test_the_key_holds_everything_that_matters() -> None:
    s, info = setting(), get_device("local").probe()
    key = digest(s, info)
    assert key == digest(setting(), info)
    others = [
        replace(s, precision=Precision.INT8_DYNAMIC),
        replace(s, plan=TimingPlan(threads=2, warmup=1)),
        replace(s, options=replace(OPTIONS, points=3)),
        replace(s, structure=s.structure.with_widths([1, 2], [128, 128])),
        replace(s, spec=replace(SPEC, args={**SPEC.args, "img_size": 32})),
    ]
    keys = [digest(other, info) for other in others] + [digest(s, replace(info, model="another"))]
    assert len({key, *keys}) == len(keys) + 1


def test_cache_folder_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "tables"
    monkeypatch.delenv("WDP_EDGE_CACHE")
    assert cache_folder().parts[-3:] == (".cache", "wdp-edge", "tables")


def test_an_export_that_fails_stops_the_others(tmp_path: Path) -> None:
    wrong = replace(SPEC, name="vit_nonsense")
    jobs: list[tuple[Structure, Path]] = [(setting().structure, tmp_path / f"{i}.pte") for i in range(3)]
    with pytest.raises(InputError, match="vit_nonsense"):
        export_all(wrong, get_target("executorch"), Precision.FP32, jobs, "export")
    assert not list(tmp_path.iterdir())
