"""`--precision auto`: what the search is told of layers. Whole searches are in tests/cli/test_export.py."""

from __future__ import annotations

import pytest

from wdp_edge.calibration.sensitivity import LayerSensitivity
from wdp_edge.commands.auto import shares_of


def test_shares_of_layers_are_of_all_weights() -> None:
    layers = [LayerSensitivity("fc1", 0.1, 30), LayerSensitivity("fc2", 0.3, 10)]
    assert shares_of(layers) == {"fc1": pytest.approx(0.75), "fc2": pytest.approx(0.25)}
