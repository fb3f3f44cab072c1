"""wdp_edge/artifacts/export_job.py: exports in a process of their own, and what is left after one that fails."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from wdp_edge.artifacts.export_job import Exporter, ExportJob
from wdp_edge.errors import InputError
from wdp_edge.io.files import sha256, to_plain
from wdp_edge.io.plain import from_plain
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Observer


def pid_of(exporter: Exporter) -> int:
    assert exporter._worker is not None
    return exporter._worker._process.pid


def test_a_job_arrives_as_it_was_sent(job: ExportJob) -> None:
    whole = replace(job, observer=Observer.MSE, keep_float=["head"], metadata={"k": "v"}, sublayers=2)
    for sent in (job, whole):
        assert from_plain(ExportJob, to_plain(sent)) == sent


def test_one_process_exports_until_a_job_fails(saved: Path, job: ExportJob) -> None:
    with Exporter("onnx", saved) as exporter:
        made = exporter.export(job)
        first = pid_of(exporter)
        assert (made.path, made.precision) == (job.path, Precision.FP32)
        assert made.bytes == job.path.stat().st_size and made.sha256 == sha256(job.path)
        begun = replace(job, path=job.path.with_name("begun.onnx"), sublayers=1)
        assert 0 < exporter.export(begun).bytes < made.bytes and pid_of(exporter) == first
        with pytest.raises(InputError, match="no precision 'palette4'"):
            exporter.export(replace(job, precision=Precision.PALETTE4))
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
        assert exporter.export(job) == made, "a new process makes the same file"
    exporter.close()
