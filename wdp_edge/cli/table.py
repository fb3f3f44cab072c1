"""`wdp-edge table`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge.cli import _options as options
from wdp_edge.cli._print import show_table
from wdp_edge.cli._shared import Json, given, perform

if TYPE_CHECKING:
    from wdp_edge.cost.table import LatencyTable


NAMES = {key: options.NAMES[key] for key in ("prune.target", "prune.precision", "prune.device", "prune.threads")}


def table(
    target: options.Target = None,
    precision: options.Precision = None,
    device: options.Device = None,
    threads: options.Threads = None,
    as_json: Json = False,
) -> int:
    """Measure what each part of the model costs on the device."""

    def call() -> LatencyTable:
        import wdp_edge
        from wdp_edge.project import project_recipe

        overrides = given(
            {
                "prune.target": target,
                "prune.precision": precision,
                "prune.device": device,
                "prune.threads": threads,
            }
        )
        return wdp_edge.table(project_recipe(Path(), overrides, NAMES, ("model.name",)))

    return perform(call, show_table, as_json)
