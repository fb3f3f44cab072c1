"""models/user_code.py: functions that people have, sound ones and others."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from wdp_edge.errors import InputError
from wdp_edge.models.user_code import made_by

CODE = """
import os
import sys
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.layer = nn.Linear(width, width)

def make():
    return nn.DataParallel(Net().half().train())
def compiled():
    return torch.compile(Net())
def changes():
    sys.path.insert(0, "/nowhere"); os.chdir("/"); torch.set_default_dtype(torch.float64)
    return Net()
def needs(width, depth=3, *more):
    return Net()
def fails():
    sizes = {}
    return Net(sizes["width"])
def ends():
    sys.exit(3)
def two():
    return Net(), "transform"
def nothing():
    Net()
def without_weights():
    with torch.device("meta"):
        return Net()
def script():
    return torch.jit.script(Net().layer)
number = 5
model = Net()
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somebodys_model.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("x = (")
    (tmp_path / "lacking.py").write_text("import a_package_that_is_not_there")
    (tmp_path / "notes.txt").write_text("")
    yield tmp_path  # type: ignore[misc]
    sys.modules.pop("somebodys_model", None)


@pytest.mark.parametrize("name", ["make", "compiled", "Net", "model"])
def test_a_model_comes_plain(name: str, code: Path) -> None:
    for place in ("somebodys_model", "./somebodys_model.py", str(code / "somebodys_model.py")):
        made = made_by(f"{place}:{name}")
        assert type(made).__name__ == "Net" and not made.training
        assert all(p.dtype is torch.float32 and p.device.type == "cpu" for p in made.parameters())


def test_what_the_code_changes_for_the_process_is_taken_back(code: Path) -> None:
    paths = list(sys.path)
    assert isinstance(made_by("./somebodys_model.py:changes"), nn.Module)
    assert (sys.path, Path.cwd(), torch.get_default_dtype()) == (paths, code, torch.float32)
    assert not any(path == os.fspath(code) for path in sys.path)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("somebodys_model", "names no function"),
        ("somebodys_model:makes", "has no function 'makes'"),
        ("nobodys_model:make", "no module 'nobodys_model'"),
        ("sub.nobodys:make", "no module 'sub.nobodys'"),
        ("./nobodys_model.py:make", "no file"),
        ("./notes.txt:make", "no Python file"),
        ("somebodys_model:number", "an object of int"),
        ("somebodys_model:needs", r"needs arguments \(width\)"),
        ("somebodys_model:fails", r"failed: KeyError: 'width' \(somebodys_model\.py, line 23\)"),
        ("somebodys_model:ends", "it ended the program"),
        ("somebodys_model:two", r"returns a tuple \(Net, str\)"),
        ("somebodys_model:nothing", "a return is missing"),
        ("somebodys_model:without_weights", "has no weights"),
        ("somebodys_model:script", "TorchScript"),
        ("broken:make", r"SyntaxError: .* \(broken\.py, line 1\)"),
        ("./lacking.py:make", r"ModuleNotFoundError: .*a_package_that_is_not_there.* \(lacking\.py, line 1\)"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(reference: str, says: str, code: Path) -> None:
    with pytest.raises(InputError, match=says) as caught:
        made_by(reference)
    assert caught.value.hint
