"""The distribution: every package is in it, nothing else lands in site-packages, and the public names resolve."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import wdp_edge

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAPPED = {"targets": "wdp_edge.targets", "calibration": "wdp_edge.calibration"}

KINDS = (".py", ".j2", ".c", ".cpp", ".h")


def packages_on_disk() -> dict[str, Path]:
    """Package name to folder, from the source tree."""
    found = {}
    for top, name in {"wdp_edge": "wdp_edge", **MAPPED}.items():
        for init in (ROOT / top).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / top).parts
            found[".".join([name, *inner])] = init.parent
    return found


def test_every_folder_is_a_package_and_is_listed() -> None:
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(packages_on_disk())
    assert listed == sorted(listed)
    folders = {m.parent for top in ("wdp_edge", *MAPPED) for m in (ROOT / top).rglob("*.py")}
    assert folders == set(packages_on_disk().values())


def test_the_mapping_puts_targets_inside_the_namespace() -> None:
    mapping = PYPROJECT["tool"]["setuptools"]["package-dir"]
    assert {name: folder for folder, name in MAPPED.items()}.items() <= mapping.items()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in a wheel built from the source tree."""
    setuptools = pytest.importorskip("setuptools", reason="building a wheel without network needs setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("wdp_edge", *MAPPED):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=folder / "source", capture_output=True, text=True
    )
    assert done.returncode == 0, f"setuptools {setuptools.__version__}: {done.stderr}"
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_the_wheel_holds_every_module_template_and_source(wheel: list[str]) -> None:
    expected = {"wdp_edge/py.typed", "wdp_edge/runners/CMakeLists.txt"}
    for package, folder in packages_on_disk().items():
        inside = package.replace(".", "/")
        expected |= {f"{inside}/{p.name}" for p in folder.iterdir() if p.suffix in KINDS}
    assert expected <= set(wheel)


def test_nothing_else_lands_in_site_packages(wheel: list[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    assert tops == {"wdp_edge", f"wdp_edge-{PYPROJECT['project']['version']}.dist-info"}


def test_the_command_and_the_target_are_registered(wheel: list[str]) -> None:
    from importlib.metadata import entry_points

    assert PYPROJECT["project"]["scripts"] == {"wdp-edge": "wdp_edge.cli:main"}
    declared = PYPROJECT["project"]["entry-points"]["wdp_edge.targets"]
    installed = {e.name: e.value for e in entry_points(group="wdp_edge.targets")}
    assert declared.items() <= installed.items()


def test_installed_version_is_the_declared_one() -> None:
    assert wdp_edge.__version__ == PYPROJECT["project"]["version"]


@pytest.mark.parametrize("name", sorted(wdp_edge.__all__))
def test_public_names_resolve(name: str) -> None:
    assert getattr(wdp_edge, name) is not None
    assert name in dir(wdp_edge)
    if name not in ("__version__", "Recipe"):
        assert callable(getattr(wdp_edge, name))
        assert not isinstance(getattr(wdp_edge, name), type(sys))


def test_report_stays_a_function_after_its_package_is_imported() -> None:
    code = (
        "import wdp_edge.report, wdp_edge, sys\n"
        "from wdp_edge.report import report\n"
        "assert wdp_edge.report is report and callable(report)\n"
        "assert sys.modules['wdp_edge.report'] is not report\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="prine"):
        _ = wdp_edge.prine
