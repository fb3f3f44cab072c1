"""`wdp-edge profile`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wdp_edge.cli._options import Accept, Device, LatencyBudget, Threads
from wdp_edge.cli._print import show_profile
from wdp_edge.cli._shared import Json, perform

if TYPE_CHECKING:
    from wdp_edge.results import ProfileResult


def profile(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE_OR_RUN]", help="An exported file or a run; default: the latest run."),
    ] = None,
    device: Device = None,
    threads: Threads = None,
    latency_budget: LatencyBudget = None,
    accept: Accept = None,
    per_op: Annotated[bool, typer.Option("--per-op", help="Also time every operator.")] = False,
    runner: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your own benchmark_model or executor_runner, for ssh: and adb: devices."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Time an exported file on a device."""

    def call() -> ProfileResult:
        import wdp_edge
        from wdp_edge.project import find_run

        return wdp_edge.profile(find_run(Path(), path), device, threads, latency_budget, accept, per_op, runner)

    return perform(call, show_profile, as_json)
