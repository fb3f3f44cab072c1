"""wdp_edge/protocols/target.py: targets by their names, and what is asked of them before anything is made."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols import target as protocol
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import (
    GROUP,
    Artifact,
    ExportOptions,
    Observer,
    check_options,
    check_timed,
    get_target,
    imports_of,
    parse_precision,
    target_class,
    target_names,
)


class Theirs:
    """FAKE: an adapter of another package, as far as it is asked here."""

    name = "theirs"
    suffix = ".t"
    precisions = (Precision.FP32, Precision.FP16)
    default_precision = Precision.FP16
    observers = (Observer.MINMAX,)
    mlp_width_multiple = 8
    lacks: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        return list(self.lacks)

    def timed_here(self) -> bool:
        return not self.lacks


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Theirs:
    """`theirs` and `broken` are installed, and nothing else."""
    module = ModuleType("wdp_edge_theirs")
    module.Theirs = Theirs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wdp_edge_theirs", module)
    entries = [
        EntryPoint("theirs", "wdp_edge_theirs:Theirs", GROUP),
        EntryPoint("broken", "no_such_module_of_theirs:Target", GROUP),
    ]
    monkeypatch.setattr(protocol, "entry_points", lambda group: entries if group == GROUP else [])
    return Theirs()


def test_targets_by_name(theirs: Theirs) -> None:
    assert target_names() == ["broken", "theirs"]
    assert target_class("theirs") is Theirs and isinstance(get_target("theirs"), Theirs)
    with pytest.raises(InputError, match=r"no target 'onnx'.*broken, theirs"):
        get_target("onnx")
    with pytest.raises(SetupError, match=r"'broken' cannot be imported: .*no_such_module_of_theirs"):
        target_class("broken")
    assert imports_of("theirs") == ()


def test_a_target_without_its_packages_is_a_class_and_no_target(
    theirs: Theirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Theirs, "lacks", ("kit>=1", "other"))
    assert target_class("theirs") is Theirs
    with pytest.raises(SetupError, match=r"'theirs' needs kit>=1, other\."):
        get_target("theirs")


def test_a_precision_is_one_of_the_targets() -> None:
    target = Theirs()
    assert parse_precision("default", target) == Precision.FP16  # type: ignore[arg-type]
    assert parse_precision("fp32", target) == Precision.FP32  # type: ignore[arg-type]
    for wrong in ("int8-dynamic", "FP32", ""):
        with pytest.raises(InputError, match=rf"'theirs' has no precision '{wrong}'.*fp32, fp16"):
            parse_precision(wrong, target)  # type: ignore[arg-type]


def test_options_that_a_target_cannot_do_are_refused_with_those_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Theirs()
    check_options(target, ExportOptions(Precision.FP32))  # type: ignore[arg-type]
    check_options(target, ExportOptions(Precision.FP32, observer=Observer.MINMAX))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"no observer 'mse'.*minmax"):
        check_options(target, ExportOptions(Precision.FP32, observer=Observer.MSE))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no precision 'palette4'"):
        check_options(target, ExportOptions(Precision.PALETTE4))  # type: ignore[arg-type]
    monkeypatch.setattr(Theirs, "observers", ())
    with pytest.raises(InputError, match=r"no observer 'mse'.*none"):
        check_options(target, ExportOptions(Precision.FP32, observer=Observer.MSE))  # type: ignore[arg-type]


def test_files_that_only_evaluate_here_have_no_times(monkeypatch: pytest.MonkeyPatch) -> None:
    check_timed(Theirs())  # type: ignore[arg-type]
    monkeypatch.setattr(Theirs, "lacks", ("runtime",))
    with pytest.raises(InputError, match="'theirs' cannot be timed on this machine"):
        check_timed(Theirs())  # type: ignore[arg-type]


def test_an_artifact_is_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "m.pkg/inner").mkdir(parents=True)
    (tmp_path / "m.pkg/inner/weights").write_bytes(b"12345")
    (tmp_path / "m.pkg/spec").write_bytes(b"678")
    whole = Artifact.of(tmp_path / "m.pkg", "theirs", Precision.FP32)
    part = Artifact.of(tmp_path / "m.pkg/spec", "theirs", Precision.FP32)
    assert (whole.bytes, part.bytes) == (8, 3) and whole.sha256 != part.sha256
    (tmp_path / "m.pkg/spec").rename(tmp_path / "m.pkg/spice")
    assert Artifact.of(tmp_path / "m.pkg", "theirs", Precision.FP32).sha256 != whole.sha256, "names count"


def test_ours_are_known_without_their_toolkits() -> None:
    code = (
        "import sys; from wdp_edge.protocols.target import target_class, target_names; "
        "print([name for name in target_names() if not target_class(name).precisions]); "
        "print({'torch', 'executorch', 'onnx', 'coremltools', 'ai_edge_litert'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "[]\nset()\n"
