"""targets/shared/contents.py: files that are there, and weights by number format."""

from __future__ import annotations

from pathlib import Path

import pytest

from wdp_edge.errors import InputError
from wdp_edge.protocols.target import WeightBytes
from wdp_edge.targets.shared.contents import check_exists, stored_weights


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    check_exists(tmp_path, folder=True)
    for path in (tmp_path, tmp_path / "model.onnx"):
        with pytest.raises(InputError, match=f"{path.name} does not exist"):
            check_exists(path)


def test_weights_are_summed_by_format_most_bytes_first() -> None:
    found = stored_weights([("float32", 8), ("int8", 300), ("float32", 4)])
    assert found == (WeightBytes("int8", 1, 300), WeightBytes("float32", 2, 12))
