"""Which target a file is of, by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from wdp_edge.commands.inspect import inspect, target_by_name
from wdp_edge.errors import InputError


@pytest.mark.parametrize(
    ("name", "target"),
    [("model.pte", "executorch"), ("model-int8.tflite", "tflite"), ("a.b.onnx", "onnx"), ("m.mlpackage", "coreml")],
)
def test_the_end_of_a_name_tells(name: str, target: str) -> None:
    assert target_by_name(Path(name)) == target


def test_the_longest_end_that_fits_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "wdp_edge.commands.inspect.known_suffixes", lambda: [(".pte", "one"), (".coreml.pte", "other"), (".onnx", "x")]
    )
    assert target_by_name(Path("model.coreml.pte")) == "other" and target_by_name(Path("model.pte")) == "one"


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pth.*\.onnx"):
        target_by_name(Path("model.pth"))
    with pytest.raises(InputError, match="does not exist"):
        inspect(tmp_path / "model.onnx")
