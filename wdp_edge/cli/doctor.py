"""`wdp-edge doctor`"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wdp_edge.cli._print import show_doctor
from wdp_edge.cli._shared import Json, perform

if TYPE_CHECKING:
    from wdp_edge.pipeline.doctor import DoctorResult


def doctor(as_json: Json = False) -> int:
    """Say what is installed and how to get what is not."""

    def call() -> DoctorResult:
        import wdp_edge

        return wdp_edge.doctor()

    return perform(call, show_doctor, as_json)
