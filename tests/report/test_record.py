"""wdp_edge/report/record.py: a run directory read into typed parts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from report_run import HEADS, HIDDEN, build_run, measured, result

from wdp_edge.errors import InputError
from wdp_edge.io.files import write_json
from wdp_edge.report.record import read_record
from wdp_edge.runs.stages import RESULT


def test_a_whole_run_is_read(tmp_path: Path) -> None:
    record = read_record(build_run(tmp_path / "run"))
    assert (record.name, record.model) == ("run", "vit_small_patch14_dinov2.lvd142m")
    assert record.manifest.device is not None and record.manifest.device.cores == 2
    assert record.widths is not None and (record.widths.heads, record.widths.hidden) == (HEADS, HIDDEN)
    assert record.widths.exit == 11 and len(record.widths.learned_heads) == 12
    assert record.operators is None and not record.training_off


def test_what_a_manifest_holds_beside_it_is_left_alone(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "of_another_version": [1]}))
    assert read_record(run).manifest.seed == 0
    (run / "manifest.json").write_text("[]")
    with pytest.raises(InputError, match=r"manifest\.json"):
        read_record(run)


@pytest.mark.parametrize(
    ("shipped", "pruned", "name"),
    [
        ("model.onnx", True, "measure.json"),
        ("model-2.onnx", True, "measure-2.json"),
        ("dense.onnx", False, "measure-dense.json"),
    ],
)
def test_the_timing_is_that_of_the_file_that_ships(shipped: str, pruned: bool, name: str, tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    known = result(run)
    write_json(run / RESULT, replace(known, pruned=pruned, shipped=replace(known.shipped, path=Path(shipped))))
    write_json(run / "stages" / name, replace(measured(), budget_ms=9.5))
    record = read_record(run)
    assert record.measured is not None and record.measured.budget_ms == 9.5


def test_a_run_without_its_stages_has_no_widths(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    (run / "stages/select.json").unlink()
    record = read_record(run)
    assert record.selected is None and record.widths is None


def test_an_unfinished_run_and_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no run"):
        read_record(tmp_path / "nothing")
    with pytest.raises(InputError, match="not finished"):
        read_record(tmp_path)
