"""docs/reference/ says what the settings and the commands say of themselves."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs/reference"


@pytest.mark.parametrize("name", ["recipe.md", "commands.md"])
def test_a_page_is_up_to_date(name: str) -> None:
    spec = importlib.util.spec_from_file_location("reference", FOLDER / "generate.py")
    assert spec is not None and spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    same = (FOLDER / name).read_text(encoding="utf-8") == reference.pages()[name]
    assert same, f"{name} is out of date. Write it again with: python docs/reference/generate.py"
